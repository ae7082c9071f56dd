// The trust set of one mesh: statements by id, united with those of peers. It only grows, but for what a bound cuts.
// Invariants
//   1. Every statement in it was checked by openItem for this mesh, and every statement that it stands on is in it too.
//   2. Its content does not depend on the order of arrival, nor on repetition (bounds.ts names the exceptions).
//   3. An admission is held only while its sponsor is a founding cluster, or has an admission with a lower `seen` that
//      is held (F5). One that comes before its sponsor's waits in a small pool; the pool is no part of the set.
// Adding a batch costs O(1) for each statement while no bound is exceeded, and O(n log n) of all n entries where one
// is.
import { type Bounds, BOUNDS } from './bounds.ts'
import { refusal } from './codec.ts'
import {
  type AdmissionEntry,
  type CommandEntry,
  type Entry,
  type FoundingEntry,
  type SeatEntry,
  type TrustContent
} from './entry.ts'
import { encodeItem, openItem, type OpenedItem } from './form.ts'
import { FORM_RULES } from './form-rules.ts'
import type { KeyId, StatementId } from './ids.ts'
import { accountsOf, accountsOfInvite, overflow } from './overflow.ts'
import type { FormContext, Signed } from './signatures.ts'
import type { ClusterCert, Invite, Refusal } from './statement.ts'
import { WaitingPool } from './waiting-pool.ts'

/** What a batch of items changed. */
export interface Changes {
  /** Ids that are new in the set. */
  readonly added: readonly StatementId[]
  /** Ids that a bound took out; some may have come with this batch. */
  readonly cut: readonly StatementId[]
}

/** The trust set. Two sets with the same ids have the same standing. */
export interface TrustSet extends TrustContent {
  /** Rises with each change of the content, so that callers can keep what they computed of it. */
  readonly version: number
  /** Checks an encoded TrustItem and adds its statements. Never throws on any bytes. */
  add(bytes: Uint8Array): ({ readonly kind: 'added' } & Changes) | Refusal
  /** Adds items that `open` has checked. The bounds are applied once, so add what one frame brings in one call. */
  addOpened(items: readonly OpenedItem[]): Changes
  /** Checks an item against this mesh without adding it; statements that are held are not verified again. */
  open(bytes: Uint8Array): OpenedItem | Refusal
  /** Whether a statement is held; one that waits for its sponsor is not. */
  has(id: StatementId): boolean
  /** All ids, in no order: what peers compare (TrustHead). */
  ids(): Iterable<StatementId>
  /** The encoded TrustItem of a held statement, with everything that it stands on; undefined when it is not held. */
  itemOf(id: StatementId): Uint8Array | undefined
  /**
   * The `seen` of the next admission that this sponsor signs: above its own, above that of the cluster that is
   * replaced, and above the number of admissions held. Undefined when the sponsor itself is not known.
   */
  nextSeen(sponsor: KeyId, replaces: KeyId | undefined): number | undefined
  /** Whether one more admission by this invite exceeds no bound of its seat, the subtree and the mesh. */
  hasRoom(invite: Invite): boolean
}

/** Creates an empty set. `bounds` are those of all members, and smaller in tests. */
export function createTrustSet(context: Omit<FormContext, 'known'>, bounds: Bounds = BOUNDS): TrustSet {
  const rules = context.rules ?? FORM_RULES
  const seats = new Map<StatementId, SeatEntry>()
  const commands = new Map<StatementId, CommandEntry>()
  const founding = new Map<StatementId, FoundingEntry>()
  const admissions = new Map<StatementId, AdmissionEntry>()
  /** What made each cluster key a cluster: founding certificates and admissions. */
  const byCluster = new Map<KeyId, Map<StatementId, FoundingEntry | AdmissionEntry>>()
  /** The pool of invariant 3. */
  const waiting = new WaitingPool(bounds)
  /** Envelopes of the invites and certificates of held admissions: each credential of their clusters shows them. */
  const parts = new Map<StatementId, Uint8Array>()
  /** How many entries count towards each bound (accountsOf). */
  const counts = new Map<string, number>()
  let version = 0
  const form: FormContext = { ...context, known: (id) => entryOf(id)?.envelope ?? parts.get(id) }

  return {
    get version() {
      return version
    },
    seats,
    commands,
    founding,
    admissions,
    open: (bytes) => openItem(form, bytes),
    add,
    addOpened,
    has: (id) => entryOf(id) !== undefined,
    *ids() {
      for (const map of [seats, commands, founding, admissions]) yield* map.keys()
    },
    itemOf(id) {
      const entry = entryOf(id)
      return entry && encodeItem(envelopesOf(entry, { seats, byCluster }))
    },
    nextSeen,
    hasRoom: (invite) =>
      accountsOfInvite(invite, seats, bounds).every(({ name, max }) => (counts.get(name) ?? 0) < max)
  }

  function add(bytes: Uint8Array): ReturnType<TrustSet['add']> {
    const item = openItem(form, bytes)
    if (item.kind === 'refused') return item
    const changes = addOpened([item])
    const last = item.statements.at(-1)?.statement.id
    const taken = last === undefined || entryOf(last) !== undefined || changes.cut.includes(last)
    return taken ? { kind: 'added', ...changes } : refusedAs(item)
  }

  function addOpened(items: readonly OpenedItem[]): Changes {
    const added: Entry[] = []
    let exceeded = false
    for (const item of items) exceeded = take(entriesOf(item), added) || exceeded
    waiting.wake(added, {
      isReady: (entry) => seats.has(entry.invite.statement.under) && isFounded(entry),
      put: (entry) => {
        exceeded = put(entry, added) || exceeded
      }
    })
    const cut = exceeded ? trim() : new Set<StatementId>()
    waiting.trim((seat) => seats.has(seat))
    if (added.length > 0) version++
    return { added: added.map(({ statement }) => statement.id).filter((id) => !cut.has(id)), cut: [...cut] }
  }

  function nextSeen(sponsor: KeyId, replaces: KeyId | undefined): number | undefined {
    const own = sponsorSeen(sponsor)
    if (own === undefined) return undefined
    const replaced = replaces === undefined ? [] : placesOf(replaces)
    return Math.max(own, admissions.size, ...replaced) + 1
  }

  /** Puts the entries of one item into the set, or into the pool; true when a bound is exceeded now. */
  function take(entries: readonly Entry[], added: Entry[]): boolean {
    let exceeded = false
    for (const [at, entry] of entries.entries()) {
      if (entryOf(entry.statement.id) !== undefined) continue
      if (entry.kind === 'admission' && !isFounded(entry)) {
        waiting.add(entry, entries.slice(at + 1))
        return exceeded
      }
      exceeded = put(entry, added) || exceeded
    }
    return exceeded
  }

  /** The entry with this id, in whichever table it is. */
  function entryOf(id: StatementId): Entry | undefined {
    return seats.get(id) ?? commands.get(id) ?? founding.get(id) ?? admissions.get(id)
  }

  /** Puts an entry into its table; true when one of its bounds is exceeded now. */
  function put(entry: Entry, added: Entry[]): boolean {
    const { id } = entry.statement
    if (entry.kind === 'seat') seats.set(id, entry)
    else if (entry.kind === 'command') commands.set(id, entry)
    else if (entry.kind === 'founding') founding.set(id, entry)
    else admissions.set(id, entry)
    for (const part of partsOf(entry)) parts.set(part.statement.id, part.envelope)
    if (entry.kind === 'admission' || entry.kind === 'founding') {
      const { clusterKey } = entry.statement
      byCluster.set(clusterKey, new Map(byCluster.get(clusterKey)).set(id, entry))
    }
    added.push(entry)
    return count(entry, 1)
  }

  /** Takes an entry out. Its seat must still be there, because its bounds are named after the seat. */
  function remove(entry: Entry): void {
    const { id } = entry.statement
    count(entry, -1)
    for (const map of [seats, commands, founding, admissions]) map.delete(id)
    // Another admission by this invite may be left; its invite is verified once more then, and no harm is done.
    for (const part of partsOf(entry)) parts.delete(part.statement.id)
    if (entry.kind === 'admission' || entry.kind === 'founding')
      byCluster.get(entry.statement.clusterKey)?.delete(id)
  }

  /** Counts an entry in or out; true when one of its bounds is exceeded after that. */
  function count(entry: Entry, by: 1 | -1): boolean {
    return accountsOf(entry, seats, bounds).reduce((exceeded, { name, max }) => {
      const now = (counts.get(name) ?? 0) + by
      if (now === 0) counts.delete(name)
      else counts.set(name, now)
      return exceeded || now > max
    }, false)
  }

  /** Takes out what is beyond the bounds. Seats go last, because the counters of the others need them. */
  function trim(): ReadonlySet<StatementId> {
    const cut = overflow(
      { seats, commands, founding, admissions },
      { bounds, rules, waiting: waiting.entries() }
    )
    const entries = [...cut].map(entryOf).filter((entry) => entry !== undefined)
    for (const entry of entries) if (entry.kind !== 'seat') remove(entry)
    for (const entry of entries) if (entry.kind === 'seat') remove(entry)
    return cut
  }

  /** F5: the sponsor's place is lower than the one that it gave. */
  function isFounded({ statement }: AdmissionEntry): boolean {
    const seen = sponsorSeen(statement.sponsorKey)
    return seen !== undefined && rules.F5(statement, seen) === undefined
  }

  /** 0 for a founding cluster, else the lowest `seen` of the key's admissions; undefined when it has none. */
  function sponsorSeen(key: KeyId): number | undefined {
    const places = placesOf(key)
    return places.length === 0 ? undefined : Math.min(...places)
  }

  /** The `seen` of everything that made this key a cluster; 0 for a founding certificate. */
  function placesOf(key: KeyId): readonly number[] {
    return Array.from(byCluster.get(key)?.values() ?? [], (entry) =>
      entry.kind === 'founding' ? 0 : entry.statement.seen
    )
  }
}

/** What an item is put together from. */
interface Parents {
  readonly seats: ReadonlyMap<StatementId, SeatEntry>
  readonly byCluster: ReadonlyMap<KeyId, ReadonlyMap<StatementId, FoundingEntry | AdmissionEntry>>
}

/** The envelopes of a statement's item, the statement last. */
function envelopesOf(entry: Entry, parents: Parents): readonly Uint8Array[] {
  return [...parentsOf(entry, parents), entry.envelope]
}

/** What an item must bring before this entry's own statement. */
function parentsOf(entry: Entry, parents: Parents): readonly Uint8Array[] {
  const { seats } = parents
  switch (entry.kind) {
    case 'founding':
      return []
    case 'seat':
      return seatEnvelopes(entry.statement.under, seats)
    case 'admission':
      return [
        ...seatEnvelopes(entry.invite.statement.under, seats),
        entry.invite.envelope,
        entry.cert.envelope
      ]
    case 'command': {
      if (entry.cluster === undefined) return seatEnvelopes(entry.seat, seats)
      const [cluster] = parents.byCluster.get(entry.cluster)?.values() ?? []
      return cluster === undefined ? [] : envelopesOf(cluster, parents)
    }
    default:
      return entry satisfies never
  }
}

/** The seat and its parent, the parent first. */
function seatEnvelopes(id: StatementId | undefined, seats: Parents['seats']): readonly Uint8Array[] {
  const seat = id === undefined ? undefined : seats.get(id)
  return seat === undefined ? [] : [...seatEnvelopes(seat.statement.under, seats), seat.envelope]
}

/** The statements that lie inside an entry. */
function partsOf(entry: Entry): readonly Signed[] {
  return entry.kind === 'admission' ? [entry.invite, entry.cert] : []
}

/** Why the last statement of a well-formed item is not in the set. */
function refusedAs({ statements }: OpenedItem): Refusal {
  const { kind } = statements.at(-1)?.statement ?? { kind: 'item' as const }
  if (kind === 'agentCert' || kind === 'invite' || kind === 'clusterCert')
    return refusal(
      'parents',
      kind,
      '',
      'it travels by itself, and not in the trust set',
      'send it where it belongs'
    )
  return refusal(
    'waiting',
    kind,
    'sponsorKey',
    'no admission of the sponsor with a lower place is known yet',
    'none is needed: the statement is taken when that of its sponsor arrives'
  )
}

/** The entries that an item brings. Its invite and certificate become part of its admission's. */
function entriesOf({ statements }: OpenedItem): readonly Entry[] {
  const entries: Entry[] = []
  let invite: Signed<Invite> | undefined
  let cert: Signed<ClusterCert> | undefined
  for (const { statement, envelope } of statements) {
    if (statement.kind === 'invite') invite = { statement, envelope }
    else if (statement.kind === 'clusterCert' && statement.invite !== undefined)
      cert = { statement, envelope }
    else if (statement.kind === 'clusterCert') entries.push({ kind: 'founding', statement, envelope })
    else if (statement.kind === 'seat')
      entries.push({ kind: 'seat', statement, envelope, root: statement.under ?? statement.id })
    else if (statement.kind === 'admission') {
      if (invite !== undefined && cert !== undefined)
        entries.push({ kind: 'admission', statement, envelope, invite, cert })
    } else if (statement.kind === 'bar') {
      const { by } = statement
      const [seat, cluster] = 'seat' in by ? [by.seat, undefined] : [undefined, by.cluster]
      entries.push({ kind: 'command', statement, envelope, seat, cluster })
    } else if (statement.kind !== 'agentCert')
      entries.push({ kind: 'command', statement, envelope, seat: statement.under, cluster: undefined })
  }
  return entries
}
