// The trust set of this agent while it is in a mesh: the members that follow from it (core/trust/members), its exchange
// with neighbours (core/trust/exchange), and its place on disk (io/store).
// Invariants
//   1. A statement that this agent signs is on disk before any neighbour sees it (`add`). A statement of others is
//      written after it was handed on, since peers have it, too (trust-writer.ts).
//   2. Each statement that comes into the set is written and handed on: everything that adds ends in `#note`,
//      or is an effect of the exchange.
import type { Crypto } from '../../core/model/crypto.ts'
import type { Origin } from '../../core/model/values.ts'
import {
  createTrustExchange,
  type ExchangeEffect,
  type TrustExchange
} from '../../core/trust/exchange/exchange.ts'
import type { Credential } from '../../core/trust/members/credential.ts'
import { createMembers, type Admitted, type Members } from '../../core/trust/members/members.ts'
import type { OpenedItem } from '../../core/trust/set/form.ts'
import type { StatementId } from '../../core/trust/set/ids.ts'
import type { MeshRoots } from '../../core/trust/set/mesh-roots.ts'
import type { Store } from '../../io/store/store.ts'
import { monotonicMs } from '../observe/clock.ts'
import type { Log } from '../observe/log.ts'
import { TrustWriter } from './trust-writer.ts'

// Milliseconds between two writes of the small tables.
const TABLES_MS = 1000

/** What a change of the set brought, as ids of statements. */
interface Changes {
  readonly added: readonly StatementId[]
  readonly cut: readonly StatementId[]
}

interface MeshTrustOptions {
  readonly crypto: Crypto
  readonly roots: MeshRoots
  /** Encoded items that this agent keeps elsewhere, too; one that is refused is left out. */
  readonly keeps?: readonly Uint8Array[]
  readonly store: Pick<Store, 'loadTrust' | 'saveTrust' | 'removeTrust' | 'saveOwners' | 'saveGenerations'>
  readonly log: Log
  readonly send: (peer: Origin, frame: Uint8Array) => void
  /** The sets of this agent and of a neighbour are equal, as far as this agent takes its statements. */
  readonly onInStep: (peer: Origin) => void
  /** A neighbour sent what no honest agent sends. */
  readonly onOffence: (peer: Origin, reason: string) => void
  /** Something was refused that is no fault of the neighbour. */
  readonly onRefused: (peer: Origin, reason: string) => void
}

/** See the head of this file. One for each session. */
export class MeshTrust {
  readonly members: Members
  readonly #options: MeshTrustOptions
  readonly #exchange: TrustExchange
  readonly #writer: TrustWriter
  /** When the tables were last given to the writer, and the version of the members that they are of. */
  #tablesMs = -Infinity
  #tablesVersion = -1
  #isMore = false

  constructor(options: MeshTrustOptions) {
    const { crypto, roots, store, log, keeps = [] } = options
    const { items, owners, generations } = store.loadTrust()
    this.#options = options
    this.members = createMembers({ crypto, roots, owners, generations })
    const { set } = this.members
    const opened = items.map((item) => set.open(item))
    const refused = opened.filter((item) => item.kind === 'refused')
    if (refused.length > 0)
      log.warn(
        { refused: refused.length, reason: refused[0]?.reason },
        'stored statements of trust are refused, and come again from neighbours'
      )
    const kept = keeps.map((item) => set.open(item))
    this.members.addItems([...opened, ...kept].filter((item) => item.kind === 'item'))
    this.#exchange = createTrustExchange({ set, crypto })
    this.#writer = new TrustWriter({ store, set, log })
  }

  /** The head of the set, for a Hello. */
  head(): ReturnType<TrustExchange['head']> {
    return this.#exchange.head()
  }

  peerUp(peer: Origin, head: Parameters<TrustExchange['peerUp']>[1]): void {
    this.#run(this.#exchange.peerUp(peer, head, monotonicMs()))
  }

  peerDown(peer: Origin): void {
    this.#run(this.#exchange.peerDown(peer))
  }

  /** Takes a frame of the exchange (isTrustFrame). */
  receive(peer: Origin, frame: Uint8Array): void {
    this.#run(this.#exchange.receive(peer, frame, monotonicMs()))
  }

  /** Called with each tick of the control plane: goes on with the exchange, and saves what has changed. */
  tick(nowMs: number): void {
    this.#run(this.#exchange.tick(nowMs))
    this.#writer.tick(nowMs)
    const { version } = this.members
    if (nowMs - this.#tablesMs < TABLES_MS || version === this.#tablesVersion) return
    this.#tablesMs = nowMs
    this.#tablesVersion = version
    this.#writer.saveTables({ owners: this.members.owners(), generations: this.members.generations() })
  }

  /** Why the store does not accept writes; undefined while it does. */
  get diskFault(): string | undefined {
    return this.#writer.diskFault
  }

  /** Resolves when what has changed is on disk, or was not accepted. */
  get idle(): Promise<void> {
    return this.#writer.idle
  }

  /**
   * Adds statements that this agent has signed: writes them, then adds them to the set and hands them on. Errors:
   * StoreError, after which nothing is added; a plain Error when the set refuses one, which is a fault of this program.
   */
  async add(items: readonly Uint8Array[]): Promise<void> {
    const { set } = this.members
    const opened = items.map((item) => {
      const one = set.open(item)
      if (one.kind === 'refused') throw new Error(`our own ${one.statement} is refused: ${one.reason}`)
      return one
    })
    const statements = opened.flatMap(({ statements: all }, at) => {
      const id = all.at(-1)?.statement.id
      const item = items[at]
      return id === undefined || item === undefined ? [] : [{ id, item }]
    })
    await this.#writer.writeFirst(statements)
    this.learn(opened)
  }

  /** Adds statements that were opened already, such as those that explain a refusal. */
  learn(items: readonly OpenedItem[]): void {
    if (items.length > 0) this.#note(this.members.addItems(items))
  }

  /** Adds a credential, with the statements that it stands on. */
  addCredential(credential: Credential): Admitted {
    const verdict = this.members.addCredential(credential)
    this.#note(this.members.takeChanges())
    return verdict
  }

  /** The same for the encoded credential of an origin, as replication brings it. Never throws on any bytes. */
  admit(origin: Origin, credential: Uint8Array): Admitted {
    const verdict = this.members.admit(origin, credential)
    this.#note(this.members.takeChanges())
    return verdict
  }

  /** Called when the store has lost everything: writes the whole set again. */
  rewrite(): void {
    this.#tablesVersion = -1
    this.#writer.rewrite()
  }

  #note(changes: Changes): void {
    if (changes.added.length === 0 && changes.cut.length === 0) return
    this.#writer.save(changes.added)
    this.#writer.remove(changes.cut)
    this.#run(this.#exchange.added(changes, monotonicMs()))
  }

  #run(effects: readonly ExchangeEffect[]): void {
    const { send, onInStep, onOffence, onRefused } = this.#options
    for (const effect of effects) {
      switch (effect.kind) {
        case 'send':
          send(effect.to, effect.frame)
          break
        case 'store':
          this.#writer.save(effect.ids)
          break
        case 'remove':
          this.#writer.remove(effect.ids)
          break
        case 'inStep':
          onInStep(effect.peer)
          break
        case 'offence':
          onOffence(effect.peer, effect.reason)
          break
        case 'refused':
          onRefused(effect.peer, effect.reason)
          break
        case 'more':
          this.#soon()
          break
        default:
          effect satisfies never
      }
    }
  }

  /** Goes on in the next turn of the event loop, so that others get their turn. */
  #soon(): void {
    if (this.#isMore) return
    this.#isMore = true
    setImmediate(() => {
      this.#isMore = false
      this.#run(this.#exchange.tick(monotonicMs()))
    })
  }
}
