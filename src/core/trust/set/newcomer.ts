// The sponsor's decision on a newcomer, as far as it needs no clock and no network: the invite stands, it is unused, its
// name and prefixes are free, and there is room. The door checks the date and the underlay besides, between `used` and
// `nameTaken`. Nothing here binds other members: they judge the admission by the rules of standing alone.
// Source: "The door", step 4, of the plan of docs/trust-set.md.
import type { Claims } from './claims.ts'
import type { ClusterStanding } from './clusters.ts'
import { comparePlaces } from './entry.ts'
import type { OpenedItem } from './form.ts'
import type { StatementId } from './ids.ts'
import { overlap } from './prefix-range.ts'
import type { Standing } from './standing.ts'
import type { ClusterCert, Invite } from './statement.ts'
import type { TrustSet } from './trust-set.ts'

/** What the sponsor answers. */
type NewcomerVerdict =
  | { readonly kind: 'admit'; readonly invite: Invite; readonly cert: ClusterCert }
  /** The same key was admitted by this invite: the newcomer gets that admission again. */
  | { readonly kind: 'again'; readonly admission: StatementId }
  | {
      readonly kind: 'reject'
      /** `malformed`: the item is no chain of seats, invite and certificate whose seats the set holds. */
      readonly code:
        'malformed' | 'cancelled' | 'used' | 'void' | 'barred' | 'nameTaken' | 'prefixOverlap' | 'quota'
      readonly reason: string
      /** Statements that explain it to the newcomer, at most EXPLAINED_MAX. */
      readonly explain: readonly StatementId[]
    }

const EXPLAINED_MAX = 4

/**
 * Judges an item that ends in a newcomer's certificate. The caller has added the item's seats to the set and evaluated
 * it since, so that a Void of one of them is known to count. O(n) of the prefixes in the mesh.
 */
export function judgeNewcomer(
  mesh: { readonly set: TrustSet; readonly standing: Standing; readonly claims: Claims },
  item: OpenedItem
): NewcomerVerdict {
  const { set, standing, claims } = mesh
  const statements = item.statements.map(({ statement }) => statement)
  const cert = statements.at(-1)
  const invite = statements.find(({ kind }) => kind === 'invite')
  if (cert?.kind !== 'clusterCert' || invite?.kind !== 'invite' || !set.seats.has(invite.under))
    return reject('malformed', 'it shows no certificate of an invite, or its seats are not known here')
  const bars = standing.barsOf(cert.clusterKey)
  const barred = () =>
    reject(
      'barred',
      'a bar names this key',
      bars.map(({ id }) => id)
    )
  const admitted = [...set.admissions.values()]
    .filter((entry) => entry.invite.statement.id === invite.id)
    .sort((a, b) => comparePlaces(a.statement, b.statement))
  const own = admitted.filter(({ statement }) => statement.clusterKey === cert.clusterKey)
  const again = own.find(({ statement }) => standing.admissions.get(statement.id)?.stands)
  // A Void of the seat may keep the admission and not the invite, so a standing admission is looked for first.
  if (again !== undefined && bars.length === 0) return { kind: 'again', admission: again.statement.id }
  if (again !== undefined) return barred()
  const verdict = standing.judgeInvite(invite)
  if (!verdict.stands) return reject('cancelled', verdict.reason, verdict.causes)
  const [fallen] = own
  if (fallen !== undefined) {
    const { reason, causes } = standing.admissions.get(fallen.statement.id) ?? { reason: '', causes: [] }
    return reject('void', `the admission of this key fell: ${reason}`, causes)
  }
  const [first] = admitted
  if (first !== undefined)
    return reject('used', 'another key was admitted by this invite', [first.statement.id])
  if (bars.length > 0) return barred()
  return conflict(claims, invite, cert) ?? (set.hasRoom(invite) ? { kind: 'admit', invite, cert } : FULL)
}

const FULL = reject('quota', 'the seat, its parent or the mesh has as many clusters as it may have')

/** Returns the refusal for a name or a prefix that another cluster claims; that of the replaced one is free. */
function conflict(claims: Claims, invite: Invite, cert: ClusterCert): NewcomerVerdict | undefined {
  const others = [...claims.names.values()]
    .flatMap(({ claimants }) => claimants)
    .filter(
      ({ key, line }) => key !== cert.clusterKey && !(invite.replaces && line.includes(invite.replaces))
    )
  const named = others.filter(({ name }) => name === invite.cluster)
  if (named.length > 0)
    return reject('nameTaken', `another cluster has the name ${invite.cluster}`, idsOf(named))
  const wanted = [...invite.pods, ...invite.services]
  for (const other of others) {
    const { pods, services } = claims.prefixes.get(other.key) ?? { pods: [], services: [] }
    const taken = [...pods, ...services].find((prefix) => wanted.some((one) => overlap(one, prefix)))
    if (taken !== undefined)
      return reject(
        'prefixOverlap',
        `${taken.cidr} of ${other.name} overlaps a prefix of the invite`,
        idsOf([other])
      )
  }
  return undefined
}

/** The statements that made these clusters. */
function idsOf(clusters: readonly ClusterStanding[]): readonly StatementId[] {
  return clusters.map(({ entry }) => entry.statement.id)
}

function reject(
  code: Extract<NewcomerVerdict, { kind: 'reject' }>['code'],
  reason: string,
  explain: readonly StatementId[] = []
): NewcomerVerdict {
  return { kind: 'reject', code, reason, explain: explain.slice(0, EXPLAINED_MAX) }
}
