-- Renews the lease of a pod, and tells whether it had run out, and whose have.
-- KEYS pods  ARGV prefix pod milliseconds
local prefix, pod = ARGV[1], ARGV[2]
local lapsed = 1 - redis.call('EXISTS', prefix .. 'l:' .. pod)
redis.call('SET', prefix .. 'l:' .. pod, '', 'PX', ARGV[3])
redis.call('SADD', KEYS[1], pod)
local dead = {}
for _, other in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if redis.call('EXISTS', prefix .. 'l:' .. other) == 0 then dead[#dead + 1] = other end
end
return {lapsed, dead}
