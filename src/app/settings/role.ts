// The role of this agent, which is data and no other program: a gateway has tunnels to other clusters, a node reaches
// them through the gateways of its own cluster.
import type { Role } from '../../core/model/values.ts'
import type { Settings } from './settings.ts'

/** Returns the role that the settings choose. `auto` is a gateway. */
export function roleOf({ role }: Pick<Settings, 'role'>): Role {
  return role === 'node' ? 'node' : 'gateway'
}
