-- Wills that are due, for a pod that has this long to publish them before another one does.
-- KEYS wills  ARGV prefix how-many milliseconds
local prefix, time, due = ARGV[1], now(), {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', time, 'LIMIT', 0, ARGV[2])) do
  local id, message = unpack(redis.call('HMGET', prefix .. 'w:' .. name, 'i', 'b'))
  if id then
    redis.call('HSET', prefix .. 'w:' .. name, 'p', '1')
    redis.call('ZADD', KEYS[1], time + ARGV[3], name)
    due[#due + 1] = {name, id, message}
  else
    redis.call('ZREM', KEYS[1], name)
  end
end
return due
