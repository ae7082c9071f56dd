// This file finds the cluster that an operation is for, by the keys, prefixes and addresses that the view gives to
// each cluster.
import { cidrContains } from '../model/cidr.ts'
import type { HostOp } from './host-state.ts'
import type { Cidr, ClusterName, Ip } from '../model/values.ts'
import type { MeshView } from '../view/view.ts'

/**
 * Returns a function that gives the cluster of an operation. The result is undefined for what all clusters share and
 * for what belonged to a cluster that has left.
 */
export function clustersOfOps(view: Pick<MeshView, 'clusters'>): (op: HostOp) => ClusterName | undefined {
  const keys = new Map<string, ClusterName>()
  const prefixes = new Map<string, ClusterName>()
  const services: { readonly prefix: Cidr; readonly cluster: ClusterName }[] = []
  for (const { name, agents, podPrefixes, servicePrefixes } of view.clusters.values()) {
    for (const { agent } of agents) if (!keys.has(agent.wireguardKey)) keys.set(agent.wireguardKey, name)
    for (const prefix of [...podPrefixes, ...servicePrefixes]) prefixes.set(prefix, name)
    for (const prefix of servicePrefixes) services.push({ prefix, cluster: name })
  }
  // Virtual servers come in the order of their addresses, so the prefix of the previous one is most often the right
  // one.
  let latest: (typeof services)[number] | undefined
  const ofService = (vip: Ip): ClusterName | undefined => {
    if (latest === undefined || !cidrContains(latest.prefix, vip))
      latest = services.find(({ prefix }) => cidrContains(prefix, vip))
    return latest?.cluster
  }
  return (op) => {
    if (op.kind === 'setPeer') return keys.get(op.peer.publicKey)
    if (op.kind === 'removePeer') return keys.get(op.publicKey)
    if ('route' in op) return prefixes.get(op.route.destination)
    if ('vip' in op) return prefixes.get(op.vip.destination)
    return 'virtualServer' in op ? ofService(op.virtualServer.vip) : undefined
  }
}
