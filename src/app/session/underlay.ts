// The sponsor's check of an invite against the networks of hosts. `meshctl invite` makes the same one (identity/invite.ts),
// on the administrator's host and before any address of later members is known; so the door repeats it.
import {
  hiddenBy,
  outersRenamed,
  type OuterAddress,
  type Surroundings
} from '../../core/host/surroundings.ts'
import type { ClusterName } from '../../core/model/values.ts'
import type { KeyId } from '../../core/trust/set/ids.ts'
import type { Invite } from '../../core/trust/set/statement.ts'

/**
 * Why the prefixes of an invite cannot be given away, as a clause: the first one that contains an address by which this
 * host or a member is reached outside the tunnel. undefined: there is none. The gateways of the invited cluster itself
 * may lie in its prefixes, and so may those of the cluster that it replaces, which is one of `clusters`.
 */
export function underlayFault(
  { cluster, pods, services, replaces }: Invite,
  around: { readonly surroundings: Surroundings; readonly outers: readonly OuterAddress[] },
  clusters?: ReadonlyMap<KeyId, { readonly name: ClusterName }>
): string | undefined {
  const from = replaces && clusters?.get(replaces)?.name
  const outers = outersRenamed(around.outers, { from, to: cluster })
  for (const { cidr } of [...pods, ...services]) {
    const hidden = hiddenBy(cidr, cluster, { ...around, outers })
    if (hidden !== undefined) return `prefix ${cidr} would hide ${hidden}`
  }
  return undefined
}
