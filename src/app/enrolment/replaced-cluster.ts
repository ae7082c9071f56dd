// The cluster that an invite replaces: the host that redeems it takes the place of this key, with its name and prefixes.
import type { Crypto } from '../../core/model/crypto.ts'
import type { Cidr } from '../../core/model/values.ts'
import { namedCluster, ownClusterKey, tunnelAnswers } from '../administration/named-cluster.ts'
import type { ReplacedCluster } from '../identity/invite.ts'
import { AppError } from '../observe/errors.ts'
import type { CurrentSession } from '../session/current-session.ts'

/** The name of the cluster, and what the administrator has allowed. */
interface Replacing {
  readonly name: string
  /** Also when the tunnel to the cluster answers. */
  readonly force: boolean
  /** Also the cluster of this agent, which then redeems the invite itself. */
  readonly mayBeOwn: boolean
}

/**
 * Returns the cluster that has this name, as far as an invite must know it. A claimant that a decision left out is not
 * meant. Errors: AppError NOT_JOINED, UNKNOWN_CLUSTER, AMBIGUOUS_CLUSTER, OWN_CLUSTER, STILL_ALIVE.
 */
export function replacedCluster(
  { current, crypto }: { readonly current: CurrentSession; readonly crypto: Crypto },
  { name, force, mayBeOwn }: Replacing
): ReplacedCluster {
  const session = current.required()
  const { members } = session.control
  const claims = members.claims()
  const claimants = [...claims.names.values()].flatMap((claim) => claim.claimants)
  const bearers = claimants.filter((one) => one.name === name)
  const [cluster] = bearers.length === 1 ? bearers : [namedCluster(members.standing(), { name })]
  if (cluster?.verdict.stands !== true)
    throw new AppError(
      'UNKNOWN_CLUSTER',
      `no cluster ${name} stands here, so there is none to replace`,
      `its name is free: run \`meshctl invite ${name}\` without --replace`
    )
  if (!mayBeOwn && ownClusterKey(current.membership, crypto) === cluster.key)
    throw new AppError(
      'OWN_CLUSTER',
      `${name} is the cluster of this agent`,
      'let an administrator in another cluster make the token, and join with it on a host with an empty state folder'
    )
  if (!force && tunnelAnswers(session, cluster.name))
    throw new AppError(
      'STILL_ALIVE',
      `the tunnel to cluster ${name} answers now: its hosts end when another host joins with this token`,
      'repeat with --force if that is wanted, or if the token will be used on a gateway of that cluster itself'
    )
  const { pods, services } = claims.prefixes.get(cluster.key) ?? cluster
  const cidrs = (list: readonly { readonly cidr: Cidr }[]) => list.map(({ cidr }) => cidr)
  return {
    key: cluster.key,
    name: cluster.name,
    podPrefixes: cidrs(pods),
    servicePrefixes: cidrs(services),
    namespaces: cluster.namespaces
  }
}
