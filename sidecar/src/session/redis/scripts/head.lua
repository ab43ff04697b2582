-- What all scripts share. KEYS[1] is the session, KEYS[2] its Will, KEYS[3] the Wills by the time at which they are due;
-- ARGV begins with the prefix of the shard's keys and the client identifier, and ends with the epoch of the connection
-- that the command was sent on. Numbers are compared as texts where equality is meant: those of Lua have 53 bits.
--
-- A session is one hash, so that a server that evicts keys forgets all of it or nothing:
--   i identity  c, t fence  o the owner's pod, '' while the client is away  e epoch  n incarnation  s highest number
--   issued  r it was reclaimed  l the pod that was taken for dead  and, by packet identifier, NUMBER:DIGEST[RECEIPT] of each open handshake.
-- A Will is a hash of its own: i id  d delay  q grace  b message  g it waits for a client that its pod has left  p a pod
-- publishes it.
local epoch = ARGV[#ARGV]
-- Keys of Wills outlive what they are waited for by a day.
local DAY = 86400000

local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Why the holder of this fence may not write; nothing if it may.
local function rejected(known, count, token)
  if not known[1] then return 2 end
  if known[1] == count and known[2] == token then return nil end
  if tonumber(known[1]) < tonumber(count) then return 2 end
  return 1
end

-- Does the changes that ARGV has from `at` on: I id number digest | K id number receipt | R id.
local function change(session, at, issued)
  while at < #ARGV do
    local what, id = ARGV[at], ARGV[at + 1]
    if what == 'R' then
      redis.call('HDEL', session, id)
      at = at + 2
    else
      local number, rest = ARGV[at + 2], ARGV[at + 3]
      if what == 'I' then
        redis.call('HSET', session, id, number .. ':' .. rest)
        if tonumber(number) > tonumber(issued) then
          issued = number
          redis.call('HSET', session, 's', issued)
        end
      else
        local open = redis.call('HGET', session, id)
        if open and open:sub(1, #number + 1) == number .. ':' then
          redis.call('HSET', session, id, open:sub(1, #number + 17) .. rest)
        end
      end
      at = at + 4
    end
  end
end

-- The Will of a new owner's connection, or none (an empty id), in the place of what was there.
local function arm(prefix, client, pod, ttl, id, delay, grace, message)
  redis.call('DEL', KEYS[2])
  redis.call('ZREM', KEYS[3], client)
  if id == '' then return end
  redis.call('HSET', KEYS[2], 'i', id, 'd', delay, 'q', grace, 'b', message)
  redis.call('PEXPIRE', KEYS[2], ttl + DAY)
  redis.call('SADD', prefix .. 'o:' .. pod, client)
end
