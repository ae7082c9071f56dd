// What `meshctl grant` has to ask before it signs, and what it has to take back. A trust set only grows, and a drop of any
// Grant that stands takes a prefix away for good (S7); so a prefix that was dropped is given back by a Void of that Grant.
import { cidrOverlaps } from '../../core/model/cidr.ts'
import type { Cidr } from '../../core/model/values.ts'
import { hiddenBy, type OuterAddress, type Surroundings } from '../../core/host/surroundings.ts'
import type { Claims } from '../../core/trust/set/claims.ts'
import type { ClusterStanding } from '../../core/trust/set/clusters.ts'
import type { Standing } from '../../core/trust/set/standing.ts'
import { STANDING_RULES } from '../../core/trust/set/standing-rules.ts'
import type { Grant } from '../../core/trust/set/statement.ts'
import { rangesOf } from '../../core/trust/author/author.ts'
import type { Identity } from '../../io/store/store.ts'
import { hidesError } from '../identity/prefixes.ts'
import { AppError } from '../observe/errors.ts'

/** The prefixes that a Grant adds and drops. */
interface PrefixChange {
  readonly add: { readonly pods: readonly Cidr[]; readonly services: readonly Cidr[] }
  readonly drop: readonly Cidr[]
}

/** What the prefixes are compared with. */
interface GrantContext {
  readonly cluster: ClusterStanding
  readonly standing: Pick<Standing, 'clusters' | 'grants'>
  readonly claims: Claims
  readonly identity: Identity | undefined
  /** Unix milliseconds, for the invites that have expired. */
  readonly nowMs: number
  readonly around: { readonly surroundings: Surroundings; readonly outers: readonly OuterAddress[] }
}

/**
 * Refuses a change that would not do what it says: prefixes that another cluster or an open invite has, pods and services
 * of one cluster that overlap, prefixes that hide an address of a host, and a drop of the last pod prefix or of none. Errors:
 * AppError PREFIX_OVERLAP, PREFIX_HIDES, BAD_ARGUMENT.
 */
export function checkGrant({ add, drop }: PrefixChange, context: GrantContext): void {
  const { cluster, claims, around } = context
  const own = claims.prefixes.get(cluster.key) ?? cluster
  const has = [own.pods, own.services, cluster.pods, cluster.services].flatMap(cidrsOf)
  const nothing = drop.find((cidr) => !has.some((held) => isDropped(held, [cidr])))
  if (nothing !== undefined)
    throw new AppError(
      'BAD_ARGUMENT',
      `drop: cluster ${cluster.name} has no prefix in ${nothing} that could be dropped; it has ${distinct(has).join(', ')} in the mesh`,
      'name one of these'
    )
  const stays = (cidr: Cidr) => !isDropped(cidr, drop)
  const [pods, services] = [own.pods, own.services].map((list) => list.map(({ cidr }) => cidr).filter(stays))
  const left = { pods: [...(pods ?? []), ...add.pods], services: [...(services ?? []), ...add.services] }
  if (left.pods.length === 0 && own.pods.length > 0)
    throw new AppError(
      'BAD_ARGUMENT',
      `drop: cluster ${cluster.name} would have no pod prefix any more, and no member would reach it`,
      `add the new prefix in the same command, or end the cluster: \`meshctl remove ${cluster.name}\``
    )
  for (const cidr of [...add.pods, ...add.services]) {
    const holder = holderOf(cidr, context)
    if (holder !== undefined)
      throw overlap(
        cidr,
        holder,
        'drop it there first, or give a prefix that no other cluster of the mesh has'
      )
    const hidden = hiddenBy(cidr, cluster.name, around)
    if (hidden !== undefined) throw hidesError(cidr, hidden)
  }
  for (const pod of left.pods) {
    const service = left.services.find((cidr) => cidrOverlaps(cidr, pod))
    if (service !== undefined)
      throw overlap(service, `${pod} of its own pods`, 'give pods and services prefixes that do not overlap')
  }
}

/**
 * Returns the change with what earlier Grants said and must say no more, and those Grants, which have to be voided: the
 * ones that drop an added prefix. Errors: AppError BAD_ARGUMENT for a prefix inside a wider one that was dropped.
 */
export function withoutEarlierDrops(
  { add, drop }: PrefixChange,
  { cluster, standing }: Pick<GrantContext, 'cluster' | 'standing'>
): { readonly change: PrefixChange; readonly taken: readonly Grant[] } {
  const added = [...add.pods, ...add.services]
  const taken = standing.grants.filter(
    ({ clusterKey, drop: dropped }) =>
      cluster.line.includes(clusterKey) && added.some((cidr) => isDropped(cidr, cidrsOf(dropped)))
  )
  const kept = taken
    .flatMap(({ drop: dropped }) => cidrsOf(dropped))
    .filter((cidr) => !isDropped(cidr, added))
  const wider = kept.find((cidr) => added.some((one) => isDropped(one, [cidr])))
  if (wider !== undefined)
    throw new AppError(
      'BAD_ARGUMENT',
      `the prefix ${wider} of cluster ${cluster.name} was dropped, and what is added lies inside it`,
      `add the whole prefix ${wider}, or another one`
    )
  const again = (kind: 'pods' | 'services') => taken.flatMap((grant) => cidrsOf(grant.add[kind]))
  const change = {
    add: {
      pods: distinct([...again('pods'), ...add.pods]),
      services: distinct([...again('services'), ...add.services])
    },
    drop: distinct([...kept, ...drop])
  }
  return { change, taken }
}

/** Whether one of the drops takes the prefix away. */
function isDropped(cidr: Cidr, drops: readonly Cidr[]): boolean {
  const ranges = rangesOf(drops)
  return rangesOf([cidr]).some((prefix) => ranges.some((drop) => STANDING_RULES.S7drops(drop, prefix)))
}

/** Another cluster or open invite that has the prefix, or a part of it. */
function holderOf(
  cidr: Cidr,
  { cluster, standing, claims, identity, nowMs }: GrantContext
): string | undefined {
  for (const [key, { pods, services }] of claims.prefixes) {
    if (key === cluster.key) continue
    const held = [...pods, ...services].find((range) => cidrOverlaps(range.cidr, cidr))
    if (held !== undefined) return `${held.cidr} of cluster ${standing.clusters.get(key)?.name ?? key}`
  }
  const invite = (identity?.invites ?? []).find(
    ({ expiresMs, prefixes }) =>
      expiresMs > nowMs && prefixes.some((held) => cidrOverlaps(held as Cidr, cidr))
  )
  return invite && `the open invite of ${invite.cluster}`
}

function overlap(cidr: Cidr, holder: string, fix: string): AppError {
  return new AppError('PREFIX_OVERLAP', `prefix ${cidr} overlaps ${holder}`, fix)
}

function cidrsOf(ranges: readonly { readonly cidr: Cidr }[]): readonly Cidr[] {
  return ranges.map(({ cidr }) => cidr)
}

function distinct(cidrs: readonly Cidr[]): readonly Cidr[] {
  return [...new Set(cidrs)]
}
