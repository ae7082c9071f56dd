// The role of this agent, which is data and no other program: a gateway has tunnels to other clusters, a node reaches
// them through the gateways of its own cluster.
import type { Role } from '../../core/model/values.ts'
import type { Settings } from './settings.ts'

/** Returns the role that the settings choose. `auto` is a gateway. */
export function roleOf({ role }: Pick<Settings, 'role'>): Role {
  return role === 'node' ? 'node' : 'gateway'
}

/** Whether this agent relays. A node is dialled by no other cluster, so it cannot. */
export function relays(settings: Pick<Settings, 'role' | 'relay-rate'>): boolean {
  return settings['relay-rate'] > 0 && roleOf(settings) === 'gateway'
}
