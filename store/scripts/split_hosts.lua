-- Shared by commit_environment.lua, acknowledge_revisions.lua and read_newest_changes.lua.

-- Splits a list of hosts as an index entry holds it ('h1,h2', or '-' for none). Returns the hosts as a set and as a list.
local function split_hosts(text)
  local set, list = {}, {}
  for host in string.gmatch(text, '[^,]+') do
    if host ~= '-' then
      set[host] = true
      list[#list + 1] = host
    end
  end
  return set, list
end
