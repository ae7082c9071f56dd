// Maelstrom's part, small: nodes in one process and in virtual time, a network that delays, loses, repeats, reorders and
// partitions their lines, and clients that add and read. Everything follows from the seed.
import { createCrypto } from '../../src/io/crypto/crypto.ts'
import { EventQueue } from '../sim/event-queue.ts'
import { Random } from '../sim/random.ts'
import { check, type Operation, type Verdict } from './check.ts'
import { parseMessage, type Body, type Message } from './message.ts'
import { MaelstromNode, TICK_MS, type Disk } from './node.ts'

export interface RunOptions {
  readonly seed: number
  readonly workload: 'broadcast' | 'g-set'
  readonly nodes: number
  /** How many values clients add, one every `intervalMs` at a random node. */
  readonly values: number
  readonly intervalMs?: number
  /** Of a line between nodes: it takes up to so long, so that lines overtake each other. */
  readonly latencyMs?: number
  /** Of a line between nodes: it never arrives, or arrives twice. */
  readonly loss?: number
  readonly duplicate?: number
  /** A random half is cut off from the other, for so long, three times in the run. */
  readonly partitionMs?: number
  /** Nodes killed and started again with their disks, at random times. */
  readonly kills?: number
  /** What the nodes get to agree once the faults have stopped. */
  readonly settleMs?: number
  /** Lines that never leave: for tests of the checker. */
  readonly mute?: (from: string) => boolean
}

export interface RunResult extends Verdict {
  readonly lines: number
  readonly bytes: number
  readonly refused: Readonly<Record<string, number>>
}

type Event =
  | { readonly kind: 'line'; readonly atMs: number; readonly line: string; readonly boot: number }
  | { readonly kind: 'tick'; readonly atMs: number; readonly node: string; readonly boot: number }
  | { readonly kind: 'do'; readonly atMs: number; readonly act: () => void }

interface Seat {
  readonly name: string
  readonly disk: Disk
  node: MaelstromNode
  boot: number
}

export function runCluster(options: RunOptions): RunResult {
  const cluster = new Cluster(options)
  return cluster.run()
}

class Cluster {
  readonly #options: RunOptions
  readonly #random: Random
  readonly #crypto = createCrypto()
  readonly #queue = new EventQueue<Event>()
  readonly #seats: readonly Seat[]
  readonly #history: Operation[] = []
  readonly #waiting = new Map<number, (body: Body) => void>()
  readonly #side = new Map<string, number>()
  #nextMessage = 1
  #nowMs = 0
  #lines = 0
  #bytes = 0
  #calm = false

  constructor(options: RunOptions) {
    this.#options = options
    this.#random = new Random(options.seed)
    this.#seats = Array.from({ length: options.nodes }, (_, index) => {
      const disk: Disk = new Map()
      return { name: `n${index}`, disk, node: new MaelstromNode(this.#crypto, disk), boot: 0 }
    })
  }

  run(): RunResult {
    const { values, intervalMs = 20, settleMs = 20_000, kills = 0, partitionMs = 0 } = this.#options
    for (const seat of this.#seats) this.#start(seat)
    const from = 500
    const end = from + values * intervalMs
    for (let value = 0; value < values; value++) {
      const atMs = from + value * intervalMs
      this.#at(atMs, () => this.#add(value))
      if (value % 10 === 5) this.#at(atMs, () => this.#read(this.#random.pick(this.#seats), false))
    }
    for (let kill = 0; kill < kills; kill++) {
      const seat = this.#random.pick(this.#seats)
      this.#at(from + this.#random.below(end - from), () => this.#kill(seat))
    }
    if (partitionMs > 0) {
      for (const third of [0, 1, 2]) {
        const atMs = from + ((end - from) * third) / 3
        this.#at(atMs, () => this.#partition())
        this.#at(atMs + partitionMs, () => this.#side.clear())
      }
    }
    this.#runUntil(end + partitionMs)
    this.#side.clear()
    this.#calm = true
    this.#runUntil(this.#nowMs + settleMs)
    for (const seat of this.#seats) this.#read(seat, true)
    this.#runUntil(this.#nowMs + 1000)
    const refused: Record<string, number> = {}
    for (const { node } of this.#seats) {
      for (const [reason, count] of Object.entries(node.refused))
        refused[reason] = (refused[reason] ?? 0) + count
    }
    const names = this.#seats.map(({ name }) => name)
    return { ...check(this.#history, names), lines: this.#lines, bytes: this.#bytes, refused }
  }

  // ------------------------------------------------------------------ clients

  #start(seat: Seat): void {
    const names = this.#seats.map(({ name }) => name)
    this.#ask(seat, { type: 'init', node_id: seat.name, node_ids: names }, () => {
      if (this.#options.workload === 'broadcast')
        this.#ask(seat, { type: 'topology', topology: grid(names) }, () => {})
    })
    this.#queue.add({
      kind: 'tick',
      atMs: this.#nowMs + this.#random.below(TICK_MS),
      node: seat.name,
      boot: seat.boot
    })
  }

  #add(value: number): void {
    const seat = this.#random.pick(this.#seats)
    const operation: Operation = { kind: 'add', node: seat.name, value, acknowledged: false }
    this.#history.push(operation)
    const body =
      this.#options.workload === 'broadcast'
        ? { type: 'broadcast', message: value }
        : { type: 'add', element: value }
    this.#ask(seat, body, ({ type }) => {
      operation.acknowledged = type === `${body.type}_ok`
    })
  }

  #read(seat: Seat, final: boolean): void {
    this.#ask(seat, { type: 'read' }, (body) => {
      const values = this.#options.workload === 'broadcast' ? body['messages'] : body['value']
      if (!Array.isArray(values)) return // not initialised again yet
      this.#history.push({ kind: 'read', node: seat.name, values: values.map(Number), final })
    })
  }

  /** Clients' lines are fast and sure; a killed node does not answer. */
  #ask(seat: Seat, body: Body, then: (body: Body) => void): void {
    const id = this.#nextMessage++
    this.#waiting.set(id, then)
    this.#deliver({ src: 'c1', dest: seat.name, body: { ...body, msg_id: id } }, 1)
  }

  // ------------------------------------------------------------------ faults

  #kill(seat: Seat): void {
    seat.boot++
    seat.node = new MaelstromNode(this.#crypto, seat.disk)
    this.#start(seat)
  }

  #partition(): void {
    for (const { name } of this.#seats) this.#side.set(name, this.#random.below(2))
  }

  // ------------------------------------------------------------------ the network

  #send(messages: readonly Message[]): void {
    const { latencyMs = 20, loss = 0, duplicate = 0, mute } = this.#options
    for (const message of messages) {
      if (message.dest.startsWith('c')) {
        this.#deliver(message, 1)
        continue
      }
      if (mute?.(message.src) === true) continue
      if (!this.#calm && this.#random.chance(loss)) continue
      const copies = !this.#calm && this.#random.chance(duplicate) ? 2 : 1
      for (let copy = 0; copy < copies; copy++) this.#deliver(message, 1 + this.#random.below(latencyMs))
    }
  }

  #deliver(message: Message, delayMs: number): void {
    const boot = this.#seat(message.dest)?.boot ?? 0
    this.#queue.add({ kind: 'line', atMs: this.#nowMs + delayMs, line: JSON.stringify(message), boot })
  }

  #at(atMs: number, act: () => void): void {
    this.#queue.add({ kind: 'do', atMs, act })
  }

  #runUntil(untilMs: number): void {
    for (let event = this.#queue.next(untilMs); event !== undefined; event = this.#queue.next(untilMs)) {
      this.#nowMs = event.atMs
      this.#step(event)
    }
    this.#nowMs = untilMs
  }

  #step(event: Event): void {
    if (event.kind === 'do') return event.act()
    if (event.kind === 'tick') {
      const seat = this.#seat(event.node)
      if (seat === undefined || seat.boot !== event.boot) return
      this.#send(seat.node.tick(this.#nowMs))
      this.#queue.add({ ...event, atMs: event.atMs + TICK_MS })
      return
    }
    const message = parseMessage(event.line)
    if (message.body.type === 'frame') {
      this.#lines++
      this.#bytes += event.line.length
    }
    const seat = this.#seat(message.dest)
    if (seat === undefined) return this.#answered(message)
    // What was on its way to a killed process dies with it.
    if (seat.boot !== event.boot || this.#isCut(message)) return
    this.#send(seat.node.receive(message, this.#nowMs))
  }

  #answered({ body }: Message): void {
    const then = this.#waiting.get(body.in_reply_to ?? 0)
    this.#waiting.delete(body.in_reply_to ?? 0)
    then?.(body)
  }

  #isCut({ src, dest }: Message): boolean {
    const [from, to] = [this.#side.get(src), this.#side.get(dest)]
    return from !== undefined && to !== undefined && from !== to
  }

  #seat(name: string): Seat | undefined {
    return this.#seats[name.startsWith('n') ? Number(name.slice(1)) : -1]
  }
}

/** Maelstrom's default topology of `broadcast`: a square grid, at most four neighbours. */
function grid(names: readonly string[]): Record<string, string[]> {
  const side = Math.ceil(Math.sqrt(names.length))
  const at = (row: number, column: number) =>
    row < 0 || column < 0 || column >= side ? undefined : names[row * side + column]
  return Object.fromEntries(
    names.map((name, index) => {
      const [row, column] = [Math.floor(index / side), index % side]
      const around = [at(row - 1, column), at(row + 1, column), at(row, column - 1), at(row, column + 1)]
      return [name, around.filter((other) => other !== undefined)]
    })
  )
}
