-- Keeps sessions whose clients are connected. Their keys are KEYS[1], KEYS[2] and every two after KEYS[3].
-- ARGV prefix pod | for each: client count token ttl
local prefix, pod = ARGV[1], ARGV[2]
local results, at, key = {}, 3, 1
while at < #ARGV do
  local client, count, token, ttl = unpack(ARGV, at, at + 3)
  local session, will = KEYS[key], KEYS[key + 1]
  local known = redis.call('HMGET', session, 'c', 't', 'l')
  local why = rejected(known, count, token)
  results[#results + 1] = why or 0
  if not why then
    redis.call('PEXPIRE', session, ttl)
    redis.call('PEXPIRE', will, ttl + DAY)
    -- Others took this pod for dead.
    if known[3] then
      redis.call('HSET', session, 'o', pod)
      redis.call('HDEL', session, 'l')
      redis.call('ZREM', KEYS[3], client)
      redis.call('HDEL', will, 'p')
      if redis.call('HDEL', will, 'g') == 1 then redis.call('SADD', prefix .. 'o:' .. pod, client) end
    end
  end
  at = at + 4
  key = key == 1 and 4 or key + 2
end
return results
