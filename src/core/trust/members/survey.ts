// What meshctl shows of the trust set: seats with their rights, the state of invites, and statements in words. Nothing
// here decides anything.
import { shortOf, type KeyId, type StatementId } from '../set/ids.ts'
import type { CommandEntry, Entry, TrustContent } from '../set/entry.ts'
import type { Standing } from '../set/standing.ts'
import type { Invite, Seat, StatementKind } from '../set/statement.ts'
import type { Verdict } from '../set/verdict.ts'

/** A seat as `meshctl admin list` shows it. */
interface SeatSummary {
  readonly seat: Seat
  readonly verdict: Verdict
  /** Its admissions that stand, of the `clustersMax` that it may have. */
  readonly clusters: number
  /** Its other statements that stand. */
  readonly statements: number
}

/** All seats: root seats by label, each before its children. O(n) of the set. */
export function seatsOf(
  content: TrustContent,
  standing: Pick<Standing, 'seats' | 'commands' | 'admissions'>
): readonly SeatSummary[] {
  const clusters = countBy(content.admissions.values(), ({ statement, invite }) =>
    standing.admissions.get(statement.id)?.stands ? invite.statement.under : undefined
  )
  const statements = countBy(content.commands.values(), ({ statement, seat }) =>
    standing.commands.get(statement.id)?.stands ? seat : undefined
  )
  const seats = Array.from(content.seats.values(), ({ statement }) => statement).sort(
    (a, b) => a.label.localeCompare(b.label, 'en') || (a.id < b.id ? -1 : 1)
  )
  const below = Map.groupBy(seats, ({ under }) => under)
  return (below.get(undefined) ?? [])
    .flatMap((root) => [root, ...(below.get(root.id) ?? [])])
    .flatMap((seat) => {
      const verdict = standing.seats.get(seat.id)
      if (verdict === undefined) return []
      return [
        { seat, verdict, clusters: clusters.get(seat.id) ?? 0, statements: statements.get(seat.id) ?? 0 }
      ]
    })
}

/** The state of an invite, but for its dates: the caller compares those with its clock. */
type InviteState =
  | { readonly kind: 'open' }
  /** The clusters that members let in by it: usually one. */
  | {
      readonly kind: 'used'
      readonly by: readonly { readonly admission: StatementId; readonly clusterKey: KeyId }[]
    }
  /** A Void of it, or of its seat. */
  | { readonly kind: 'cancelled'; readonly verdict: Verdict }

/** The state of an invite that its inviter has kept. O(n) of the admissions. */
export function stateOfInvite(
  content: TrustContent,
  standing: Pick<Standing, 'judgeInvite'>,
  invite: Invite
): InviteState {
  const by = [...content.admissions.values()]
    .filter((entry) => entry.invite.statement.id === invite.id)
    .map(({ statement: { id, clusterKey } }) => ({ admission: id, clusterKey }))
  if (by.length > 0) return { kind: 'used', by }
  const verdict = standing.judgeInvite(invite)
  return verdict.stands ? { kind: 'open' } : { kind: 'cancelled', verdict }
}

/** The invites by which members let a cluster in, as far as the set knows. O(n) of the admissions. */
export function usedInvites({ admissions }: Pick<TrustContent, 'admissions'>): ReadonlySet<StatementId> {
  return new Set(Array.from(admissions.values(), ({ invite }) => invite.statement.id))
}

/** A statement in words, for people who ask why something does not stand. */
interface Explained {
  readonly id: StatementId
  readonly kind: StatementKind
  /** 'the roots', 'the seat "ann"', or 'the cluster east'. */
  readonly signer: string
  /** What it says, as the end of a sentence whose subject is the signer: 'ended the cluster east'. */
  readonly text: string
}

/** Explains the causes of a verdict. Ids that the set does not hold are left out. */
export function explain(content: TrustContent, ids: readonly StatementId[]): readonly Explained[] {
  return ids.flatMap((id) => {
    const entry =
      content.commands.get(id) ??
      content.admissions.get(id) ??
      content.founding.get(id) ??
      content.seats.get(id)
    if (entry === undefined) return []
    return [
      { id, kind: entry.statement.kind, signer: signerOf(content, entry), text: textOf(content, entry) }
    ]
  })
}

/** Who signed an entry. */
function signerOf(content: TrustContent, entry: Entry): string {
  if (entry.kind === 'founding') return 'the roots'
  if (entry.kind === 'admission') return clusterText(content, entry.statement.sponsorKey)
  if (entry.kind === 'seat') return seatText(content, entry.statement.under)
  return entry.cluster === undefined ? seatText(content, entry.seat) : clusterText(content, entry.cluster)
}

/** What an entry says. */
function textOf(content: TrustContent, entry: Entry): string {
  switch (entry.kind) {
    case 'founding':
      return `founded the cluster ${entry.statement.name}`
    case 'seat':
      return `created the seat "${entry.statement.label}"`
    case 'admission': {
      const { replaces } = entry.invite.statement
      const what = `admitted the cluster ${entry.cert.statement.name}`
      return replaces === undefined ? what : `${what} in the place of the key ${shortKey(replaces)}`
    }
    case 'command':
      return commandText(content, entry)
    default:
      return entry satisfies never
  }
}

/** What a command says. */
function commandText(content: TrustContent, { statement }: CommandEntry): string {
  switch (statement.kind) {
    case 'bar': {
      const { target, keepOnly } = statement
      if ('agent' in target) return `ended the agent with the key ${shortKey(target.agent)}`
      const limit = keepOnly === undefined ? '' : `, and what it admitted but for ${keepOnly.size}`
      return `ended ${clusterText(content, target.cluster)}${limit}`
    }
    case 'decide':
      return `gave the name ${statement.name} to the key ${shortKey(statement.clusterKey)}`
    case 'grant':
      return `changed the prefixes of ${clusterText(content, statement.clusterKey)}`
    case 'void': {
      const seat = content.seats.get(statement.target)?.statement
      if (seat !== undefined)
        return `removed the seat "${seat.label}" and kept ${statement.keep.size} statements`
      return `took back the statement ${shortOf(statement.target)}`
    }
    default:
      return statement satisfies never
  }
}

/** A seat by its label. */
function seatText(content: TrustContent, id: StatementId | undefined): string {
  const seat = id === undefined ? undefined : content.seats.get(id)
  return seat === undefined ? 'the roots' : `the seat "${seat.statement.label}"`
}

/** A cluster by its name, when the set knows its key. */
function clusterText(content: TrustContent, key: KeyId): string {
  const founding = [...content.founding.values()].find(({ statement }) => statement.clusterKey === key)
  const admitted = [...content.admissions.values()].find(({ statement }) => statement.clusterKey === key)
  const name = founding?.statement.name ?? admitted?.cert.statement.name
  return name === undefined ? `the cluster with the key ${shortKey(key)}` : `the cluster ${name}`
}

/** The first 16 digits of a key: enough to tell keys apart, and short enough to read. */
function shortKey(key: KeyId): string {
  return key.slice(0, 16)
}

/** How often each key occurs; undefined is not counted. */
function countBy<T, K>(items: Iterable<T>, keyOf: (item: T) => K | undefined): ReadonlyMap<K, number> {
  const counts = new Map<K, number>()
  for (const item of items) {
    const key = keyOf(item)
    if (key !== undefined) counts.set(key, (counts.get(key) ?? 0) + 1)
  }
  return counts
}
