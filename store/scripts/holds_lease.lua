-- Shared by the scripts that change something for the agent of a host.

-- Whether the lease at `key` is held by `incarnation`. The lease holds '<incarnation> <state>'.
local function holds_lease(key, incarnation)
  local lease = redis.call('GET', key)
  return lease and string.match(lease, '^%S+') == incarnation
end
