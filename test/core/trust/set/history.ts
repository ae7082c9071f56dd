// Random histories of a mesh: what administrators and clusters sign, honest or not, in any constellation that a few names
// and prefixes allow.
import fc from 'fast-check'
import type { StatementId } from '../../../../src/core/trust/set/ids.ts'
import { type TestCluster, type TestInvite, type TestSeat, type Thing, World } from './world.ts'

/** One step: what is done, and numbers that choose by whom and to what. */
export interface Step {
  readonly what: (typeof STEPS)[number]
  readonly a: number
  readonly b: number
  readonly c: number
}

const STEPS = [
  'seat',
  'child',
  'join',
  'join',
  'admit',
  'replace',
  'void',
  'keep',
  'bar',
  'limit',
  'leave',
  'decide',
  'grant',
  'drop'
] as const
const NAMES = ['aa', 'ab', 'ba', 'bb', 'c'] as const
const PATTERNS = ['*', 'a*', 'b*', 'aa', 'c'] as const
const PREFIXES = [
  '10.0.0.0/14',
  '10.1.0.0/16',
  '10.1.64.0/18',
  '10.2.0.0/15',
  '10.3.0.0/16',
  'fd00:1::/64',
  '10.9.0.0/16'
] as const

export function steps(of: readonly Step['what'][] = STEPS, maxLength = 24): fc.Arbitrary<readonly Step[]> {
  const number = fc.nat(1000)
  return fc.array(fc.record({ what: fc.constantFrom(...of), a: number, b: number, c: number }), { maxLength })
}

/** A mesh that a history fills. `things` are in the order in which they were signed. */
export class History {
  readonly world: World
  readonly founder: TestCluster
  readonly seats: TestSeat[]
  readonly clusters: TestCluster[]
  readonly invites: TestInvite[] = []
  readonly things: Thing[]
  #seen = 1

  constructor(options: ConstructorParameters<typeof World>[0] = {}) {
    this.world = new World(options)
    this.founder = this.world.found('c', ['10.9.0.0/16'])
    this.seats = [this.world.seat()]
    this.clusters = [this.founder]
    this.things = [this.founder, ...this.seats]
  }

  /** Runs the steps. With `only`, these seats sign, whoever a step would choose. */
  run(list: readonly Step[], only?: readonly TestSeat[]): this {
    for (const step of list) for (const thing of this.#step(step, only ?? this.seats)) this.things.push(thing)
    return this
  }

  #step({ what, a, b, c }: Step, seats: readonly TestSeat[]): readonly Thing[] {
    const { world } = this
    const by = pick(seats, a)
    const [cluster, name, prefix] = [pick(this.clusters, b), pick(NAMES, c), pick(PREFIXES, b + c)]
    switch (what) {
      case 'seat':
        return [push(this.seats, world.seat({ names: [pick(PATTERNS, b)] }))]
      case 'child':
        return [push(this.seats, world.seat({ under: by, names: [pick(PATTERNS, b)] }))]
      case 'join':
        return this.#admit(push(this.invites, world.invite(by, name, { pods: [prefix] })), cluster)
      case 'admit':
        // A token that is redeemed once more. Those of seats that may not sign now stay as they are.
        return seats === this.seats && this.invites.length > 0
          ? this.#admit(pick(this.invites, a), cluster)
          : []
      case 'replace':
        return this.#admit(world.invite(by, name, { pods: [prefix], replaces: cluster }), this.founder)
      case 'void':
        return [world.void(seats === this.seats && b % 3 === 0 ? 'roots' : by, this.#target(c))]
      case 'keep':
        return [
          world.void(
            by,
            pick(this.seats, b),
            this.things.filter((_, at) => (at + c) % 2 === 0)
          )
        ]
      case 'bar':
        return [world.bar({ seat: by }, cluster)]
      case 'limit':
        return [
          world.bar(
            { seat: by },
            cluster,
            this.things.filter((_, at) => (at + c) % 3 === 0)
          )
        ]
      case 'leave':
        return seats === this.seats && b % 4 === 0 ? [world.bar({ cluster }, cluster)] : []
      case 'decide':
        return [world.decide(by, name, cluster)]
      case 'grant':
        return [world.grant(by, cluster, { pods: [prefix] })]
      case 'drop':
        return [world.grant(by, cluster, { drop: [prefix] })]
      default:
        return what satisfies never
    }
  }

  /** Now and then a sponsor lies about the number of admissions that it holds. */
  #admit(invite: TestInvite, sponsor: TestCluster): readonly Thing[] {
    this.#seen++
    const seen = this.#seen % 5 === 0 ? 1 : this.#seen
    return [push(this.clusters, this.world.admit(invite, sponsor, seen))]
  }

  #target(at: number): StatementId {
    return pick(this.things, at).id
  }
}

function push<T>(list: T[], item: T): T {
  list.push(item)
  return item
}

function pick<T>(list: readonly T[], at: number): T {
  const found = list[at % list.length]
  if (found === undefined) throw new Error('the list is empty')
  return found
}
