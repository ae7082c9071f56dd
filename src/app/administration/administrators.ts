// The administrators of a mesh: their seats, and the roots that stand above them. An administrator makes a key on an agent
// of its own (`meshctl admin key`), and gives its public half to one that may create seats.
// Invariant: the seed of an administrator's key never leaves the agent that made it, but for the Secret that the gateways of
// one cluster share.
import type { AdminAddRequest } from '../../api/requests.ts'
import type { AdminKeyAnswer, StatementAnswer } from '../../api/trust-answers.ts'
import type { Body } from '../admin/answer-body.ts'
import type { Crypto } from '../../core/model/crypto.ts'
import { voidByRoots, voidBySeat } from '../../core/trust/author/command.ts'
import { createChildSeat, createRootSeat } from '../../core/trust/author/seat.ts'
import { keepListOf } from '../../core/trust/members/keep-list.ts'
import { keyId, type KeyId } from '../../core/trust/set/ids.ts'
import type { Seat } from '../../core/trust/set/statement.ts'
import type { MeshRoots } from '../../core/trust/set/mesh-roots.ts'
import type { Identity, Store } from '../../io/store/store.ts'
import { base64, bytes } from '../identity/encoding.ts'
import { cidrs } from '../identity/prefixes.ts'
import { AppError } from '../observe/errors.ts'
import type { Log } from '../observe/log.ts'
import type { CurrentSession } from '../session/current-session.ts'
import { refuseLastSeatStanding } from './last-seat.ts'
import { areRootsInFile, noSeat, ownSeats, type OwnSeat } from './own-seats.ts'
import type { RootKeys } from './root-keys.ts'
import { withinRights } from './within-rights.ts'

/** The session with the members, and the identity with seats and roots. With Kubernetes, a Secret shares both (docs/trust.md). */
interface AdministratorsOptions {
  readonly current: CurrentSession
  readonly store: Pick<Store, 'identity' | 'changeIdentity'>
  readonly crypto: Crypto
  readonly log: Log
  /** The root keys that this agent can sign with. */
  readonly rootKeys: Pick<RootKeys, 'seeds'>
}

/** See the head of this file. */
export class Administrators {
  readonly #options: AdministratorsOptions

  constructor(options: AdministratorsOptions) {
    this.#options = options
  }

  /** Returns the public key of this agent as an administrator; makes it once. Errors: AppError NOT_JOINED; StoreError. */
  async key(): Promise<Body<AdminKeyAnswer>> {
    const { store, crypto } = this.#options
    this.#identity()
    const made = base64(crypto.random(32))
    const identity = await store.changeIdentity((known) =>
      known.adminSeed === undefined ? { ...known, adminSeed: made } : known
    )
    return { adminKey: keyId(crypto.publicKeyOf(bytes(identity?.adminSeed ?? made))) }
  }

  /**
   * Creates a seat: under the roots when this agent holds enough of them, else under a seat of this agent that may create
   * seats. Errors: AppError NOT_JOINED, NO_SEAT, SEAT_EXCEEDED, BAD_ARGUMENT; StoreError.
   */
  async add(request: AdminAddRequest): Promise<Body<StatementAnswer>> {
    const context = this.#context()
    const rights = {
      names: [...request.names].sort(),
      prefixes: cidrs('prefix', request.prefixes),
      inviteDaysMax: request.inviteDays,
      clustersMax: request.clusters,
      maySeat: request.maySeat
    }
    const seat = { adminKey: request.key as KeyId, label: request.label, rights }
    this.#refuseTakenLabel(request.label)
    const rootSeeds = this.#options.rootKeys.seeds()
    const hasRoots = rootSeeds.length >= context.roots.k
    if (request.root === true && !hasRoots) throw rootsMissing(context.roots, rootSeeds.length)
    const seats = this.#ownSeats()
    const own = seats.find(({ seat: one }) => one.maySeat)
    if (!hasRoots && own === undefined) throw seats.length === 0 ? noSeat() : maySeatMissing(seats)
    const made = withinRights('this seat cannot be created', () =>
      hasRoots || own === undefined
        ? createRootSeat(context, { ...seat, rootSeeds })
        : createChildSeat(context, { ...seat, ...own })
    )
    return this.#sign(
      made.item,
      `created the seat "${request.label}" for the key ${request.key.slice(0, 16)}`
    )
  }

  /**
   * Takes a seat back. What stands below it here is kept, up to KEEP_MAX statements; the answer says how many more fall. The
   * roots sign when they are here, since they may end every seat; otherwise the seat itself or the one above it. Errors:
   * AppError NOT_JOINED; UNKNOWN_SEAT for no such seat, or several; LAST_SEAT without `force`, as in last-seat.ts; NO_SEAT
   * when this agent has no key that may end the seat; StoreError.
   */
  async remove(request: { readonly seat: string; readonly force: boolean }): Promise<Body<StatementAnswer>> {
    const { set } = this.#members()
    const standing = this.#members().standing()
    const standingSeats = this.#standingSeats()
    const found = standingSeats.filter(
      ({ label, id }) => label === request.seat || id.startsWith(request.seat)
    )
    const [target, ...others] = found
    if (target === undefined || others.length > 0)
      throw new AppError(
        'UNKNOWN_SEAT',
        target === undefined
          ? `no seat ${JSON.stringify(request.seat)} stands here`
          : `${found.length} seats are called ${request.seat}`,
        'name one seat by its label or by the beginning of its id: `meshctl admin list`'
      )
    const identity = this.#identity()
    const context = this.#context()
    const rootSeeds = this.#options.rootKeys.seeds()
    const hasRoots = rootSeeds.length >= context.roots.k
    if (!request.force)
      refuseLastSeatStanding(standingSeats, target, { hasRoots, isInFile: areRootsInFile(identity) })
    const { entries, beyond } = keepListOf(set, standing, target.id, { children: true })
    const keep = entries.map(({ id }) => id)
    const own = this.#ownSeats().find(({ seat }) => seat.id === target.under || seat.id === target.id)
    if (!hasRoots && own === undefined) throw noSeat()
    const item =
      hasRoots || own === undefined
        ? voidByRoots(context, rootSeeds, { target: target.id, keep }).item
        : voidBySeat(context, own, { target: target.id, keep }).item
    const lost = beyond === 0 ? '' : `; ${beyond} more cannot be kept and fall`
    return this.#sign(
      item,
      `removed the seat "${target.label}"; ${keep.length} statements below it stay${lost}`
    )
  }

  /** All seats that stand. */
  #standingSeats(): readonly Seat[] {
    const { set } = this.#members()
    const { seats } = this.#members().standing()
    return Array.from(set.seats.values(), ({ statement }) => statement).filter(
      ({ id }) => seats.get(id)?.stands
    )
  }

  /** Two seats of one label could not be told apart in `admin remove`. Errors: AppError BAD_ARGUMENT. */
  #refuseTakenLabel(label: string): void {
    if (!this.#standingSeats().some((seat) => seat.label === label)) return
    throw new AppError(
      'BAD_ARGUMENT',
      `label: a seat with the label ${JSON.stringify(label)} stands already`,
      'choose another label, or take that seat back first (`meshctl admin remove`); `meshctl admin list` shows all seats'
    )
  }

  /** The seats of this agent that stand. */
  #ownSeats(): readonly OwnSeat[] {
    return ownSeats(this.#identity(), this.#members(), this.#options.crypto)
  }

  /** The identity of an agent in a mesh. Errors: AppError NOT_JOINED. */
  #identity(): Identity {
    const identity = this.#options.store.identity()
    if (identity === undefined) throw new Error('no identity')
    this.#options.current.required()
    return identity
  }

  /** The members of the mesh. Errors: AppError NOT_JOINED. */
  #members() {
    return this.#options.current.required().control.members
  }

  /** What signing needs. Errors: AppError NOT_JOINED. */
  #context(): { readonly crypto: Crypto; readonly roots: MeshRoots } {
    const { crypto, current } = this.#options
    current.required()
    const { membership } = current
    if (membership === undefined) throw new Error('a session has a membership')
    return { crypto, roots: membership.roots }
  }

  /** Signs: the statement is on disk and on its way when the promise resolves. Errors: StoreError. */
  async #sign(item: Uint8Array, done: string): Promise<Body<StatementAnswer>> {
    const { current, log } = this.#options
    const { control } = current.required()
    await control.sign([item])
    log.info({ done }, 'signed as an administrator')
    return { done, neighbours: control.neighbours().length }
  }
}

/** The error of an agent that holds fewer root keys than must sign. */
function rootsMissing({ k, keys }: MeshRoots, held: number): AppError {
  return new AppError(
    'NO_ROOT',
    `${k} of the ${keys.length} root keys must sign, and this agent holds ${held}`,
    `import ${k - held} more: \`meshctl root import <file>\``
  )
}

/** The error of an agent whose seats may not create seats. */
function maySeatMissing(seats: readonly OwnSeat[]): AppError {
  const labels = seats.map(({ seat }) => JSON.stringify(seat.label)).join(', ')
  return new AppError(
    'SEAT_EXCEEDED',
    `the ${seats.length === 1 ? 'seat' : 'seats'} of this agent (${labels}) may not create seats`,
    'run the command on the agent with the root keys, or on one whose seat was created with `meshctl admin add --may-seat`'
  )
}
