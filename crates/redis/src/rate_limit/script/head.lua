-- Decides what nodes ask of the limits of one subject: everything is read, then decided, then written.
--
-- KEYS: one of each limit; then, where a node tells of itself, that of the nodes.
-- ARGV: how many limits; of each limit its kind and three numbers; of each ask the least and the most that it wants, what
--   it gives back, its node or nothing, and for how long that is there.
-- Answers of each ask: the units it gets, what is left, how many nodes there are, and where it gets none, how long until
--   there are enough, or -1 where there never can be. Or {-1} alone: a key holds something that is not ours.
--
-- Times are microseconds. A number is a double here: each is whole and below 2^53, so that none is ever rounded.
--
-- Where the clock went back by no more than a period, time stands still until it has come as far again. Where it went
-- back by more, everything that counts counts as if it had come now: nobody waits for longer than a period and a bit, and
-- nothing is forgotten.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local FOREIGN = {}

local function whole(text)
  local number = text and string.match(text, '^%d+$') and tonumber(text)
  if not number or number > 9007199254740991 then error(FOREIGN) end
  return number
end

-- Lua itself would write 1.7e+15.
local function digits(number)
  return string.format('%.0f', number)
end

-- A millisecond more than it takes: the server's own expiry counts whole ones.
local function ttl(micros)
  return digits(math.ceil(micros / 1000) + 1)
end

-- By the kind of a limit, what makes its functions: only those that are needed are made. Each has `load`, which reads the
-- state of a limit; `free`, how many units are there; `take`; `back`, which gives back, the oldest first; `wait`, how
-- long until so many are there; and `store`.
local KINDS = {}
