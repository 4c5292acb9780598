
-- An entry: `bc1;VERSION;FRESH-UNTIL;STALE-FOR;NUMBER;TAGS;`, each tag as `LENGTH:TAG`, then the body. Nothing, if it is not
-- one of ours.
local function parse(text, version, limit)
  if type(text) ~= 'string' then return nil end
  local found, fresh, stale, at_number, count, at =
    string.match(string.sub(text, 1, 128), '^bc1;(%d+);(%d+);(%d+);(%d+);(%d+);()')
  fresh, stale, at_number, count = whole(fresh), whole(stale), whole(at_number), whole(count)
  if found ~= version or not (fresh and stale and at_number and count) or count > MOST_TAGS then return nil end
  local tags = {}
  for index = 1, count do
    local length, past = string.match(string.sub(text, at, at + 8), '^(%d+):()')
    length = whole(length)
    if not length or length > LONGEST_TAG then return nil end
    at = at + past - 1
    tags[index] = string.sub(text, at, at + length - 1)
    if #tags[index] ~= length then return nil end
    at = at + length
  end
  if #text - at + 1 > limit then return nil end
  return { fresh = fresh, stale = stale, number = at_number, tags = tags, body = string.sub(text, at) }
end

local function is_valid(entry, tag_prefix)
  if entry.number < birth then return false end
  for _, tag in ipairs(entry.tags) do
    local last = whole(text_of(tag_prefix .. tag))
    if not last or last > entry.number then return false end
  end
  return true
end

-- The longest lease, in milliseconds.
local LONGEST_LEASE = 60000

-- Whether a lock may be one of ours. How long it lasts is looked at where the caller found that odd: it makes Redis remember.
local function is_lease(lock, looks)
  if not text_of(lock) then return false end
  if not looks then return true end
  local left = redis.call('PTTL', lock)
  return 0 <= left and left <= LONGEST_LEASE
end

-- WANT (any, fresh, none) VERSION LIMIT TAG-PREFIX LOCK TOKEN LEASE BREAKS
-- BREAKS: 1 where the lock did not look like one of ours. One that is not is overwritten.
-- 1: the value: for how long it is fresh, for how long stale after that, its body, its tags. 2: the lock is yours. 3: it is
-- another's. Then 1 where there was something that is not a value of this version.
function operations.enter()
  local want, version, limit, tag_prefix = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
  read_era()
  local text = redis.pcall('GETEX', KEYS[2])
  local entry, odd = nil, 0
  if text then
    entry = parse(text, version, limit)
    if not entry then odd = 1 end
  end
  if entry and want ~= 'none' then
    local fresh, stale = entry.fresh - now, entry.stale
    if fresh <= 0 then fresh, stale = 0, stale + fresh end
    if (fresh > 0 or want == 'any' and stale > 0) and is_valid(entry, tag_prefix) then
      remember()
      return answer(1, fresh, stale, entry.body, unpack(entry.tags))
    end
  end
  if redis.call('SET', ARGV[6], ARGV[7], 'NX', 'PX', ARGV[8]) then return answer(2, odd) end
  if not is_lease(ARGV[6], ARGV[9] == '1') then
    redis.call('SET', ARGV[6], ARGV[7], 'PX', ARGV[8])
    return answer(2, odd)
  end
  return answer(3, odd)
end

-- KNOWN-BIRTH KNOWN-NUMBER LIST RUN. RUN is that of the server, or nothing where it does not tell.
-- 1: the tags that were invalidated since. 0: it is not known which.
--
-- What is here may be older than what was known once: of a server that was restarted, or a replica that took over, before the
-- last writes were safe. Which keys were invalidated by those is not known: all that is here is void.
function operations.since()
  read_era()
  local known_birth, known_number = tonumber(ARGV[2]), tonumber(ARGV[3])
  if known_birth > birth or known_number > number or ARGV[5] ~= '' and ARGV[5] ~= run then
    run = ARGV[5]
    begin_era(math.max(known_birth, known_number))
    remember()
    return answer(0)
  end
  local tags = known_birth == birth and listed_since(known_number, ARGV[4])
  remember()
  if not tags then return answer(0) end
  return answer(1, unpack(tags))
end
