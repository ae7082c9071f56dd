// How a node enters a mesh: with the key of its cluster, which a gateway has made. A cluster begins with a gateway, because a
// node has no agent to connect to before.
import { AppError } from '../observe/errors.ts'
import { roleOf } from '../settings/role.ts'
import type { Settings } from '../settings/settings.ts'

/** Refuses to begin a cluster on a node. Errors: AppError BAD_ARGUMENT. */
export function refuseNode(settings: Pick<Settings, 'role'>): void {
  if (roleOf(settings) === 'node')
    throw new AppError(
      'BAD_ARGUMENT',
      'role: this agent is a node, and a cluster begins with a gateway',
      'run `meshctl init` or `meshctl join` on a gateway of this cluster; a host without Kubernetes then joins with a token of `meshctl invite --gateway`'
    )
}

/** The token that an agent may use where gateways share the key by a Secret: a node waits for the key instead. */
export function tokenFor(settings: Pick<Settings, 'role'>, token: string | undefined): string | undefined {
  return roleOf(settings) === 'node' ? undefined : token
}

/**
 * The addresses that the Secret of the cluster gets of an agent, for the agents that are added later. A node refuses all
 * others, so it has none.
 */
export function sharedAddresses(
  settings: Pick<Settings, 'role'>,
  multiaddrs: readonly string[]
): readonly string[] {
  return roleOf(settings) === 'node' ? [] : multiaddrs
}

/** Whether an agent may publish the services of its cluster. A node is a leaf, and its cluster has gateways for this. */
export function maySpeak(settings: Pick<Settings, 'role'>): boolean {
  return roleOf(settings) === 'gateway'
}
