// The sponsor's decision on a knock: one verdict, from checks in a fixed order. The first that fails answers.
//   the sponsor itself stands → the item is whole → the same key was admitted: again → the invite stands → it is unused →
//   the date → no bar → the name → the prefixes → quotas → the underlay
// Invariants
//   1. Nothing here reads another clock than the one it is given, and only the date reads that one.
//   2. Two doors that do not know of each other may admit two keys by one invite. Both admissions are valid, and E1
//      settles them; a second admission of one key changes nothing.
import type { Claims } from '../set/claims.ts'
import type { AdmissionEntry, FoundingEntry } from '../set/entry.ts'
import type { OpenedItem } from '../set/form.ts'
import type { KeyId, StatementId } from '../set/ids.ts'
import { judgeNewcomer } from '../set/newcomer.ts'
import type { Standing } from '../set/standing.ts'
import type { ClusterCert, Invite } from '../set/statement.ts'
import type { TrustSet } from '../set/trust-set.ts'
import type { Credential } from '../members/credential.ts'
import { placeOf } from './admitted.ts'
import { type HandshakeCode, rejection } from './codes.ts'
import { EXPLAIN_MAX } from './frames.ts'
import { type DoorClocks, judgeInviteTime } from './invite-time.ts'
import type { Answer } from './port.ts'

/** What the sponsor does. */
type DoorVerdict =
  /** It signs an admission with this `seen`, writes it, floods it and answers with it. */
  | { readonly kind: 'admit'; readonly invite: Invite; readonly cert: ClusterCert; readonly seen: number }
  /** It answers at once: the admission is in the set. */
  | Answer

/** The sponsor: what its own agent shows, its clocks, and the checks that look beyond the trust set. */
export interface Sponsor {
  readonly credential: Pick<Credential, 'clusterKey' | 'item'>
  readonly clocks: Omit<DoorClocks, 'peerSeconds'>
  /** Refuses for limits of this agent, for example admissions in an hour. Called when all checks before it passed. */
  readonly quota: (invite: Invite) => BeyondTheSet<'quota' | 'busy'> | undefined
  /** Refuses prefixes that overlap networks of hosts. Called last. */
  readonly underlay: (invite: Invite) => BeyondTheSet<'underlay' | 'busy'> | undefined
}

/** A refusal of a check that is not of the trust set. */
interface BeyondTheSet<C extends HandshakeCode> {
  readonly code: C
  /** A clause. */
  readonly reason: string
}

/** The trust set, and what was evaluated of it after the seats of the knock were added (`seatsOf`). */
interface JudgedMesh {
  readonly set: TrustSet
  readonly standing: Standing
  readonly claims: Claims
}

/** Judges a knock. O(n) of the prefixes in the mesh. */
export function judgeDoor(
  mesh: JudgedMesh,
  knock: { readonly item: OpenedItem; readonly peerSeconds: number },
  sponsor: Sponsor
): DoorVerdict {
  const { set, standing } = mesh
  const { clusterKey, item: own } = sponsor.credential
  if (standing.clusters.get(clusterKey)?.verdict.stands !== true)
    return reject('busy', 'the sponsor does not stand itself, or does not know its own admission yet')
  const found = judgeNewcomer(mesh, knock.item)
  if (found.kind === 'again') return again(set, found.admission, clusterKey)
  if (found.kind === 'reject' && BEFORE_THE_DATE.has(found.code)) return refusal(set, found)
  const invite = inviteOf(knock.item)
  if (invite === undefined) return reject('certificate', 'the knock shows no invite')
  const time = judgeInviteTime(invite, { ...sponsor.clocks, peerSeconds: knock.peerSeconds })
  if (time.kind === 'reject') return { ...time, explain: [] }
  if (found.kind === 'reject') return refusal(set, found)
  const beyond = sponsor.quota(invite) ?? sponsor.underlay(invite)
  if (beyond !== undefined) return reject(beyond.code, beyond.reason)
  const seen = set.nextSeen(clusterKey, invite.replaces)
  if (seen === undefined) return reject('busy', 'the sponsor does not know its own admission yet')
  // The newcomer compares with the admission that the sponsor shows, which may be a later one of its key.
  return { kind: 'admit', invite, cert: found.cert, seen: Math.max(seen, placeOf(own) + 1) }
}

/** The seats of an item, for the trust set: the caller adds them before it judges, since a Void may name one. */
export function seatsOf({ kind, statements }: OpenedItem): OpenedItem {
  return { kind, statements: statements.filter(({ statement }) => statement.kind === 'seat') }
}

/** A refusal of judgeNewcomer, which knows no date. */
type Refused = Extract<ReturnType<typeof judgeNewcomer>, { kind: 'reject' }>

const BEFORE_THE_DATE: ReadonlySet<Refused['code']> = new Set(['malformed', 'cancelled', 'used', 'void'])

/** Its code and text on the wire, and the items of the statements that explain it. */
function refusal(set: TrustSet, { code, reason, explain }: Refused): DoorVerdict {
  const items = explain
    .slice(0, EXPLAIN_MAX)
    .map((id) => set.itemOf(id))
    .filter((item) => item !== undefined)
  return reject(code === 'malformed' ? 'certificate' : code, reason, items)
}

/** The admission that the key has. Of one by another cluster the newcomer must see that it is a cluster. */
function again(set: TrustSet, id: StatementId, own: KeyId): DoorVerdict {
  const item = set.itemOf(id)
  const admission = set.admissions.get(id)?.statement
  if (item === undefined || admission === undefined)
    return reject('busy', 'the admission of this key is not known here any more')
  const { sponsorKey, seen } = admission
  if (sponsorKey === own) return { kind: 'admitted', item }
  const signer = clusterBelow(set, sponsorKey, seen)
  const sponsor = signer && set.itemOf(signer.statement.id)
  if (sponsor === undefined)
    return reject('unknownSponsor', 'the member that admitted this key is not known here any more')
  return { kind: 'admitted', item, sponsor }
}

/** What made a key a cluster before this place; of several the latest, which an honest signer has shown. */
function clusterBelow(
  { founding, admissions }: TrustSet,
  key: KeyId,
  seen: number
): FoundingEntry | AdmissionEntry | undefined {
  const admitted = [...admissions.values()]
    .filter(({ statement }) => statement.clusterKey === key && statement.seen < seen)
    .sort((a, b) => b.statement.seen - a.statement.seen)
  return admitted[0] ?? [...founding.values()].find(({ statement }) => statement.clusterKey === key)
}

function inviteOf({ statements }: OpenedItem): Invite | undefined {
  const found = statements.find(({ statement }) => statement.kind === 'invite')?.statement
  return found?.kind === 'invite' ? found : undefined
}

function reject(code: HandshakeCode, reason: string, explain: readonly Uint8Array[] = []): DoorVerdict {
  return { kind: 'reject', ...rejection(code, reason), explain }
}
