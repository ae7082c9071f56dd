// The cluster that an administrator names in a request, and what has to be asked before it is ended.
import { keyId, type KeyId } from '../../core/trust/set/ids.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import type { ClusterName } from '../../core/model/values.ts'
import type { ClusterStanding } from '../../core/trust/set/clusters.ts'
import type { Standing } from '../../core/trust/set/standing.ts'
import type { Membership } from '../identity/identity.ts'
import { AppError } from '../observe/errors.ts'
import type { Session } from '../session/session.ts'

/**
 * The cluster of a name, or of a name and (the beginning of) a key. Without a key, one that stands comes before those
 * that do not, so that a name that was given anew means the cluster that has it now.
 * Errors: UNKNOWN_CLUSTER, AMBIGUOUS_CLUSTER, which lists the keys.
 */
export function namedCluster(
  { clusters }: Pick<Standing, 'clusters'>,
  { name, key = '' }: { readonly name: string; readonly key?: string | undefined }
): ClusterStanding {
  const all = [...clusters.values()].filter((cluster) => cluster.name === name && cluster.key.startsWith(key))
  const standing = all.filter(({ verdict }) => verdict.stands)
  const found = standing.length > 0 && key === '' ? standing : all
  const [first, ...others] = found
  if (first === undefined)
    throw new AppError(
      'UNKNOWN_CLUSTER',
      `no cluster ${name}${key === '' ? '' : ` with the key ${key}`} is known here`,
      'see `meshctl trust status`'
    )
  if (others.length > 0)
    throw new AppError(
      'AMBIGUOUS_CLUSTER',
      `${found.length} keys bear the name ${name}: ${found.map((one) => one.key.slice(0, 16)).join(', ')}`,
      'decide first which of them has the name: `meshctl decide <name> <key>`'
    )
  return first
}

/** The key of the cluster of this agent; undefined while it is in no mesh. */
export function ownClusterKey(membership: Membership | undefined, crypto: Crypto): KeyId | undefined {
  return membership && keyId(crypto.publicKeyOf(membership.clusterSeed))
}

/** Whether a probe to a gateway of this cluster was answered lately. */
export function tunnelAnswers(session: Session, name: ClusterName): boolean {
  const agents = session.control.view().clusters.get(name)?.agents ?? []
  return agents.some(({ origin }) => session.paths.tunnels.health(origin) === 'up')
}
