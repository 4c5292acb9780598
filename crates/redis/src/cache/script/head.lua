-- Carries out one operation of the store, atomically. ARGV[1] names it; what else is in ARGV stands above each.
--
-- KEYS[1] is the era and KEYS[2] the entry, where an operation has them. Each answer begins with a number that says how it
-- went, followed by the era's two.
--
-- What Redis tells the caller's connection of later (client tracking) is decided here. Up to Redis 7.0 a command that only
-- reads makes Redis remember all of KEYS, and from 7.2 on just what it reads. So GETEX, which counts as a write and is never
-- remembered, is used to look, and `remember` where the caller is to be told. A write ends the remembering: it comes before
-- `remember`. Of his own writes the caller is told, too, since Redis tells him nothing of what it evicts otherwise: how he
-- knows them stands at `as_own`.
--
-- Numbers are doubles here: each is whole and below 2^53.
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local now = math.floor(micros / 1000)

-- For how long entries and tags are there after their time, in milliseconds: who loads a value anew has stored it before Redis
-- tells of the old one's end.
local GRACE = 10000
-- How many invalidations of tags are listed, and for how long.
local LISTED = 512
local LISTED_FOR = 3600000
local MOST_TAGS = 64
local LONGEST_TAG = 1024

-- Lua itself would write 1.7e+15.
local function digits(number)
  return string.format('%.0f', number)
end

local function whole(text)
  local number = text and string.match(text, '^%d+$') and tonumber(text)
  return number and number <= 9007199254740991 and number or nil
end

-- Nothing, if it holds something else than a string.
local function text_of(key)
  local text = redis.pcall('GETEX', key)
  return type(text) == 'string' and text or nil
end

-- Invalidations of tags are numbered. The era says from which number on anything counts at all, and the last number. Where
-- it was lost, everything counts as invalidated: it begins with the time, which is further than any number came so far. Beside
-- them stands the run of the server that is known to have had all of that; nothing where it is not known.
local birth, number, run

local function write_era()
  redis.call('SET', KEYS[1], digits(birth) .. ':' .. digits(number) .. ':' .. run)
end

local function read_era()
  local first, last, known = string.match(text_of(KEYS[1]) or '', '^(%d+):(%d+):?(%w*)$')
  birth, number, run = whole(first), whole(last), known
  if not birth or not number then
    birth, number, run = micros, micros, ''
    write_era()
  end
end

-- Above all numbers that were ever given, where those are known.
local function begin_era(known)
  birth = math.max(micros, birth + 1, number + 1, known + 1)
  if birth > 9007199254740991 then birth = micros end
  number = birth
  write_era()
end

local function remember()
  redis.call('EXISTS', unpack(KEYS))
end

-- KEYS[3] and KEYS[4] are the marks of the caller's connection, which are there and remembered only while this runs. What the
-- caller is told in between is told in this order, without anything of others: KEYS[3], then the entry, is his own write.
-- KEYS[4] ends it: nothing that comes later is taken for that.
local function unmark()
  redis.call('SET', KEYS[3], '')
  redis.call('DEL', KEYS[3])
  redis.call('SET', KEYS[4], '')
  redis.call('DEL', KEYS[4])
end

-- Runs what writes the entry so that the caller knows it for his own, and has it remembered.
local function as_own(change)
  remember()
  redis.call('SET', KEYS[3], '')
  change()
  remember()
  unmark()
end

local function answer(code, ...)
  return { code, birth, number, ... }
end

local function delete()
  return redis.call('DEL', KEYS[2])
end

-- Whoever is to be told of a key that is not there, is so only when it is written.
local function wipe()
  if delete() == 0 then
    redis.call('SET', KEYS[2], '')
    redis.call('DEL', KEYS[2])
  end
end

-- The tags that were invalidated after that number, the last one first. Nothing, if it is not known which.
local function listed_since(since, list)
  local missed, tags = number - since, {}
  if missed < 0 or missed > LISTED then return nil end
  if missed == 0 then return tags end
  local all = redis.pcall('LRANGE', list, 0, missed - 1)
  if all.err then return nil end
  for index, listed in ipairs(all) do
    local at, tag = string.match(listed, '^(%d+):(.*)$')
    if whole(at) ~= number - index + 1 then return nil end
    tags[index] = tag
  end
  return #tags == missed and tags or nil
end

local operations = {}
