-- Notes that the clients of a dead pod are gone, some at a time: their Wills wait for a grace. Returns whether there are
-- more.
-- KEYS pods wills  ARGV prefix pod how-many
local prefix, pod = ARGV[1], ARGV[2]
if redis.call('EXISTS', prefix .. 'l:' .. pod) == 1 then return 0 end
local owned = prefix .. 'o:' .. pod
for _, client in ipairs(redis.call('SPOP', owned, ARGV[3])) do
  local session, will = prefix .. 's:' .. client, prefix .. 'w:' .. client
  local delay, grace = unpack(redis.call('HMGET', will, 'd', 'q'))
  if delay and redis.call('HGET', session, 'o') == pod then
    redis.call('HSET', session, 'o', '', 'l', pod)
    -- As Farewell::after has it for a pod that drains.
    local left = math.max(0, redis.call('PTTL', session))
    local wait = math.max(math.min(tonumber(delay), left), tonumber(grace))
    redis.call('HSET', will, 'g', '1')
    redis.call('PEXPIRE', will, wait + DAY)
    redis.call('ZADD', KEYS[2], now() + wait, client)
  end
end
if redis.call('EXISTS', owned) == 1 then return 1 end
redis.call('SREM', KEYS[1], pod)
return 0
