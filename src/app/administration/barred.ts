// What `meshctl restore` takes back: the bars of a cluster, or of one agent.
import { publicKeyOf } from '../../core/model/identity.ts'
import { keyId, type KeyId } from '../../core/trust/set/ids.ts'
import type { ClusterStanding } from '../../core/trust/set/clusters.ts'
import type { Standing } from '../../core/trust/set/standing.ts'
import type { Bar } from '../../core/trust/set/statement.ts'
import { AppError } from '../observe/errors.ts'
import { namedCluster } from './named-cluster.ts'

/** The bars, and for whom they are. */
interface Barred {
  readonly bars: readonly Bar[]
  /** "the cluster east", "the agent 12D3KooW…". */
  readonly what: string
  /** The name that a seat must cover to take the bars back; undefined for bars of an agent by a seat. */
  readonly name: string | undefined
  /** The key of the cluster; undefined for an agent. */
  readonly key?: KeyId
}

/**
 * Returns the bars of a cluster name, or of a PeerId. Of several keys that bore the name, one that is barred by a seat
 * is meant before one that has left by itself, which needs a new token anyway. `key`: the beginning of the key. Errors:
 * AppError UNKNOWN_CLUSTER, AMBIGUOUS_CLUSTER, NOT_BARRED.
 */
export function barredBy(
  standing: Pick<Standing, 'clusters' | 'bars' | 'barsOf'>,
  { name, key }: { readonly name: string; readonly key?: string | undefined }
): Barred {
  const agentKey = publicKeyOf(name)
  if (agentKey !== undefined) {
    const id = keyId(agentKey)
    const bars = standing.bars.filter(({ target }) => 'agent' in target && target.agent === id)
    if (bars.length === 0) throw notBarred(`the agent ${name}`)
    const by = bars.find((bar) => 'cluster' in bar.by)?.by
    const cluster = by !== undefined && 'cluster' in by ? standing.clusters.get(by.cluster) : undefined
    return { bars, what: `the agent ${name}`, name: cluster?.name }
  }
  const cluster = barredCluster(standing, { name, key })
  return {
    bars: standing.barsOf(cluster.key),
    what: `the cluster ${cluster.name}`,
    name: cluster.name,
    key: cluster.key
  }
}

function barredCluster(
  standing: Pick<Standing, 'clusters' | 'barsOf'>,
  { name, key = '' }: { readonly name: string; readonly key?: string | undefined }
): ClusterStanding {
  const bearers = [...standing.clusters.values()].filter(
    (one) => one.name === name && one.key.startsWith(key)
  )
  if (bearers.length === 0) return namedCluster(standing, { name, key })
  const barred = bearers.filter((one) => standing.barsOf(one.key).length > 0)
  const bySeat = barred.filter((one) => standing.barsOf(one.key).some(({ by }) => 'seat' in by))
  const [first, ...others] = bySeat.length > 0 ? bySeat : barred
  if (first === undefined) throw notBarred(`the cluster ${name}`)
  if (others.length === 0) return first
  const keys = [first, ...others].map((one) => one.key.slice(0, 16)).join(', ')
  throw new AppError(
    'AMBIGUOUS_CLUSTER',
    `${others.length + 1} keys with the name ${name} were ended: ${keys}`,
    `name the key that is to come back: \`meshctl restore ${name} --key ${first.key.slice(0, 16)}\``
  )
}

function notBarred(what: string): AppError {
  return new AppError('NOT_BARRED', `no bar ends ${what}`, 'read `meshctl trust status`')
}
