// Reduces the agent's or the cluster's own record to the part that other agents accept. A gateway with one unusual
// address, or with more addresses than a record can hold, must not drop out of the mesh because its whole record is
// refused. Used by own-records.ts.
import type { AgentValue, ClusterValue, Value } from '../model/values.ts'

/**
 * Returns the value with the fields that pass, tried one by one, and with the entries of its lists that pass. When a
 * list is too long, its first entries are kept, so lists must be ordered by usefulness. Returns undefined when not even
 * the required fields pass, and for services and endpoint slices, of which a part would be wrong. `passes` says whether
 * other agents accept a value.
 */
export function reducedValue(value: Value, passes: (value: Value) => boolean): Value | undefined {
  switch (value.kind) {
    case 'agent':
      return reducedAgent(value, passes)
    case 'cluster':
      return reducedCluster(value, passes)
    case 'service':
    case 'endpointSlice':
      return undefined
    default:
      return value satisfies never
  }
}

/** An agent's record needs its tunnel keys and its role; all other fields are tried. */
function reducedAgent(value: AgentValue, passes: (value: Value) => boolean): AgentValue | undefined {
  const bare: AgentValue = {
    kind: 'agent',
    tunnelKeys: value.tunnelKeys,
    wireguardAddresses: [],
    multiaddrs: [],
    tunnelAddress: undefined,
    node: '',
    role: value.role,
    version: '',
    probePort: 0
  }
  if (!passes(bare)) return undefined
  const steps: readonly Partial<AgentValue>[] = [
    { tunnelAddress: value.tunnelAddress },
    { probePort: value.probePort },
    { node: value.node },
    { version: value.version },
    ...(value.handOver === undefined ? [] : [{ handOver: value.handOver }]),
    ...(value.relayRate === undefined ? [] : [{ relayRate: value.relayRate }])
  ]
  const passing = steps.filter((step) => passes({ ...bare, ...step }))
  const plain: AgentValue = Object.assign({ ...bare }, ...passing)
  const { wireguardAddresses, multiaddrs, nodePrefixes = [] } = value
  const tunnelled = withEntries(plain, { field: 'wireguardAddresses', entries: wireguardAddresses }, passes)
  const dialled = withEntries(tunnelled, { field: 'multiaddrs', entries: multiaddrs }, passes)
  return withEntries(dialled, { field: 'nodePrefixes', entries: nodePrefixes }, passes)
}

function reducedCluster(value: ClusterValue, passes: (value: Value) => boolean): ClusterValue | undefined {
  const bare: ClusterValue = { ...value, podPrefixes: [], servicePrefixes: [] }
  if (!passes(bare)) return undefined
  const kept = withEntries(bare, { field: 'podPrefixes', entries: value.podPrefixes }, passes)
  return withEntries(kept, { field: 'servicePrefixes', entries: value.servicePrefixes }, passes)
}

/** Adds to a list field each entry with which the value still passes. */
function withEntries<T extends Value>(
  value: T,
  { field, entries }: { readonly field: keyof T; readonly entries: readonly unknown[] },
  passes: (value: Value) => boolean
): T {
  const kept: unknown[] = []
  for (const entry of entries) if (passes({ ...value, [field]: kept.concat(entry) })) kept.push(entry)
  return kept.length === 0 ? value : { ...value, [field]: kept }
}
