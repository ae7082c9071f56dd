// Which statements and clusters of a trust set stand (S1 to S5): a function of the content, evaluated from the roots
// downwards. Each answer has its reason and the statements that cause it.
// Invariants
//   1. A statement affects only what stands below it, or clusters whose names its seat covers.
//   2. Each pass reads the results of passes before it only: seats, then statements, then admissions, then replacements
//      by rising `seen`, then clusters. So there is no circle, and the result is the same on every member.
// Cost: O(n log n) for n entries. With 2,048 clusters it costs about as much as verifying 50 signatures.
import { type ClusterStanding, clustersOf, replacements } from './clusters.ts'
import type { AdmissionEntry, CommandEntry, TrustContent } from './entry.ts'
import { fallenSeats, seatVerdict } from './fallen-seats.ts'
import type { KeyId, StatementId } from './ids.ts'
import { coversName } from './rights.ts'
import { STANDING_RULES, type StandingRules } from './standing-rules.ts'
import type { Bar, Decide, Grant, Invite, Seat, Void } from './statement.ts'
import { falls, stands, type Verdict } from './verdict.ts'

/** The standing of everything in a set. */
export interface Standing {
  /** S1. */
  readonly seats: ReadonlyMap<StatementId, Verdict>
  /** Grants, Bars, Decides and Voids. A Void of a seat stands by S1. */
  readonly commands: ReadonlyMap<StatementId, Verdict>
  /** S3 and S4. That an admission stands says nothing of a Bar of its cluster. */
  readonly admissions: ReadonlyMap<StatementId, Verdict>
  /** S5, by cluster key. */
  readonly clusters: ReadonlyMap<KeyId, ClusterStanding>
  /** Standing statements, for the steps that follow. */
  readonly grants: readonly Grant[]
  readonly bars: readonly Bar[]
  readonly decides: readonly Decide[]
  /** Bars of this cluster key that count, whether the set knows the cluster or not. */
  barsOf(key: KeyId): readonly Bar[]
  /** S2 for an invite without an admission, for a sponsor. Its seat must be held: what is not held is not judged. */
  judgeInvite(invite: Invite): Verdict
  /** Whether the seat that signed a statement covers one of the cluster's names; for a Bar or Grant of this key. */
  mayDecideOn(statement: Bar | Grant, key: KeyId): boolean
}

/** Evaluates a set. It depends on nothing but the content, so the caller keeps the result until `version` changes. */
export function evaluateTrust(content: TrustContent, rules: StandingRules = STANDING_RULES): Standing {
  // Names of all keys, standing or not: rights over a name are needed to judge what does not stand yet.
  const names = namesOfKeys(content)
  const voids = voidsByTarget(content)
  const fallen = fallenSeats(content, voids, rules)
  const seatOf = (id: StatementId | undefined) =>
    id === undefined ? undefined : content.seats.get(id)?.statement
  const verdictOf = (of: Judged): Verdict => judge(of, { voids, fallen, seatOf, rules })

  const commands = new Map(
    Array.from(content.commands, ([id, entry]) => [id, commandVerdict(entry)] as const)
  )
  const standing = [...content.commands.values()].filter(
    ({ statement }) => commands.get(statement.id)?.stands
  )
  const bars = standing.map(({ statement }) => statement).filter((statement) => statement.kind === 'bar')
  const decides = standing
    .map(({ statement }) => statement)
    .filter((statement) => statement.kind === 'decide')
  const grants = standing.map(({ statement }) => statement).filter((statement) => statement.kind === 'grant')
  // A bar counts where its signer may decide on one of the target's names, or is the target itself.
  const signerOf = (bar: Bar) => seatOf('seat' in bar.by ? bar.by.seat : undefined)
  const effective = bars.filter(
    (bar) => 'cluster' in bar.target && rules.S5bars(bar, signerOf(bar), names.get(bar.target.cluster) ?? [])
  )
  const barsOf = Map.groupBy(effective, ({ target }) => ('cluster' in target ? target.cluster : undefined))
  const decidesOf = Map.groupBy(decides, ({ clusterKey }) => clusterKey)

  const admissions = new Map(
    Array.from(content.admissions, ([id, entry]) => [id, admissionVerdict(entry)] as const)
  )
  const replaced = replacements(content, {
    seatOf,
    rules,
    admitted: (id) => admissions.get(id)?.stands === true
  })
  const clusters = clustersOf(content, { admissions, replaced, rules, barsOf })
  return {
    seats: new Map(Array.from(content.seats.keys(), (id) => [id, seatVerdict(fallen.get(id) ?? [])])),
    commands,
    admissions,
    clusters,
    grants,
    bars,
    decides,
    barsOf: (key) => barsOf.get(key) ?? [],
    judgeInvite: ({ id, under, cluster }) => verdictOf({ ids: [id], seat: under, names: [cluster] }),
    mayDecideOn(statement, key) {
      const signer = statement.kind === 'bar' ? signerOf(statement) : seatOf(statement.under)
      return signer !== undefined && (names.get(key) ?? []).some((name) => coversName(signer, name))
    }
  }

  /** S1 for the Void of a seat, S2 for every other statement. */
  function commandVerdict(entry: CommandEntry): Verdict {
    const { statement } = entry
    if (statement.kind !== 'void' || !content.seats.has(statement.target))
      return verdictOf(judgedCommand(entry, names))
    const felling = fallen.get(statement.target) ?? []
    if (felling.includes(statement)) return stands('S1', 'the seat that it names falls by it')
    return falls('S1', 'its signer has no right over the seat, or lost it')
  }

  /** S3, and S4 over it. */
  function admissionVerdict(entry: AdmissionEntry): Verdict {
    const { invite, statement, cert } = entry
    const { name, clusterKey } = cert.statement
    const adopting = (decidesOf.get(clusterKey) ?? []).find((decide) => rules.S4(decide, entry))
    if (adopting !== undefined) return stands('S4', 'a decision adopts it', [adopting])
    // A Void may name the invite or the admission, and may keep either.
    const ofInvite = verdictOf({
      ids: [invite.statement.id, statement.id],
      seat: invite.statement.under,
      names: [name]
    })
    if (!ofInvite.stands) return { ...ofInvite, rule: 'S3' }
    const limit = (barsOf.get(statement.sponsorKey) ?? []).find((bar) => {
      const signer = signerOf(bar)
      return rules.S3limits(bar, entry, signer !== undefined && coversName(signer, name))
    })
    if (limit === undefined) return stands('S3', 'its invite stands')
    return falls('S3', 'its sponsor is barred, and the bar does not keep it', [limit])
  }
}

/** What S2 judges: the ids that a Void may name or keep, the seat, and the cluster names that it is about. */
interface Judged {
  readonly ids: readonly StatementId[]
  readonly seat: StatementId | undefined
  readonly names: readonly string[]
}

/** What S2 reads: the passes before it. */
interface Judging {
  /** By target. */
  readonly voids: ReadonlyMap<StatementId, readonly Void[]>
  /** The Voids that fell each seat. */
  readonly fallen: ReadonlyMap<StatementId, readonly Void[]>
  readonly seatOf: (id: StatementId | undefined) => Seat | undefined
  readonly rules: StandingRules
}

/** S2: the seat stands or its fall keeps the statement, and no standing Void names it. */
function judge({ ids, seat, names }: Judged, { voids, fallen, seatOf, rules }: Judging): Verdict {
  const felling = seat === undefined ? undefined : fallen.get(seat)
  const lost = felling?.filter((taken) => !rules.S2keeps(taken, ids)) ?? []
  if (lost.length > 0) return falls('S2', 'its seat was voided, and the void does not keep it', lost)
  const by = ids
    .flatMap((id) => voids.get(id) ?? [])
    .filter((taken) => {
      const kept = (fallen.get(taken.under ?? ROOTS) ?? []).every((felling) =>
        rules.S2keeps(felling, [taken.id])
      )
      return kept && rules.S2voids(taken, seatOf(taken.under), { seat: seatOf(seat), names })
    })
  if (by.length > 0) return falls('S2', 'a void names it', by)
  return stands('S2', 'its seat stands, or the void of the seat keeps it')
}

/** No seat has this id: what the roots sign has no seat that could fall. */
const ROOTS = '' as StatementId

/** What S2 judges of a command. A Void of another statement cannot be voided, so it is about no name. */
function judgedCommand({ statement, seat, cluster }: CommandEntry, names: Names): Judged {
  const ids = [statement.id]
  if (statement.kind === 'void') return { ids, seat, names: [] }
  if (statement.kind === 'decide') return { ids, seat, names: [statement.name] }
  if (statement.kind === 'grant') return { ids, seat, names: names.get(statement.clusterKey) ?? [] }
  const about = 'cluster' in statement.target ? statement.target.cluster : cluster
  return { ids, seat, names: (about && names.get(about)) ?? [] }
}

/** Names by cluster key. A key has several when it was admitted by invites with different ones. */
type Names = ReadonlyMap<KeyId, readonly string[]>

/** The names that each cluster key bears, whether it stands or not. */
function namesOfKeys({ founding, admissions }: TrustContent): Names {
  const names = new Map<KeyId, string[]>()
  const certs = [
    ...Array.from(founding.values(), ({ statement }) => statement),
    ...Array.from(admissions.values(), ({ cert }) => cert.statement)
  ]
  for (const { clusterKey, name } of certs) {
    const held = names.get(clusterKey)
    if (held === undefined) names.set(clusterKey, [name])
    else if (!held.includes(name)) held.push(name)
  }
  return names
}

/** The Voids that name each statement. */
function voidsByTarget({ commands, seats }: TrustContent): ReadonlyMap<StatementId, readonly Void[]> {
  const all = [...commands.values()].map(({ statement }) => statement).filter(({ kind }) => kind === 'void')
  const found = Map.groupBy(all as Void[], ({ target }) => target)
  // Voids cannot be voided.
  for (const target of found.keys())
    if (commands.get(target)?.statement.kind === 'void' && !seats.has(target)) found.delete(target)
  return found
}
