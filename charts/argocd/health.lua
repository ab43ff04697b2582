-- Health of an IngestPipeline, by the rules of kstatus. Argo CD gives the object as `obj`.
local hs = {}

if obj.metadata.deletionTimestamp ~= nil then
  hs.status = "Progressing"
  hs.message = "It is being deleted"
  return hs
end

local conditions = {}
if obj.status ~= nil and obj.status.conditions ~= nil then
  for _, condition in ipairs(obj.status.conditions) do
    conditions[condition.type] = condition
  end
end

local function is_true(kind)
  return conditions[kind] ~= nil and conditions[kind].status == "True"
end

local function tell(status, kind)
  hs.status = status
  hs.message = conditions[kind].reason .. ": " .. conditions[kind].message
  return hs
end

-- Held off on purpose: it will not move, whatever its generation.
if is_true("ReconciliationPaused") then
  return tell("Suspended", "ReconciliationPaused")
end

if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  hs.status = "Progressing"
  hs.message = "The operator has not acted upon this generation yet"
  return hs
end

if is_true("Reconciling") then
  return tell("Progressing", "Reconciling")
end
if is_true("Stalled") then
  return tell("Degraded", "Stalled")
end
if is_true("Ready") then
  return tell("Healthy", "Ready")
end

hs.status = "Progressing"
hs.message = "It is not ready yet"
if conditions["Ready"] ~= nil then
  return tell("Progressing", "Ready")
end
return hs
