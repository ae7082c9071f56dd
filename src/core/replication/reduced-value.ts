// The part of an agent's or a cluster's own record that the others accept. A gateway with one odd address, or with more of them than
// a record holds, must not leave the mesh for it.
import type { AgentValue, ClusterValue, Value } from '../model/values.ts'

/**
 * As much as passes, field by field; of lists the first entries that pass, so their order is the order of usefulness. Undefined where
 * nothing does, and for services and slices, which count whole or not at all.
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

function reducedAgent(value: AgentValue, passes: (value: Value) => boolean): AgentValue | undefined {
  const bare: AgentValue = {
    kind: 'agent',
    wireguardKey: value.wireguardKey,
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
    { version: value.version }
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

function withEntries<T extends Value>(
  value: T,
  { field, entries }: { readonly field: keyof T; readonly entries: readonly unknown[] },
  passes: (value: Value) => boolean
): T {
  const kept: unknown[] = []
  for (const entry of entries) if (passes({ ...value, [field]: kept.concat(entry) })) kept.push(entry)
  return kept.length === 0 ? value : { ...value, [field]: kept }
}
