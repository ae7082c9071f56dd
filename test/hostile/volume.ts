// Claim 5: what one cluster can make others keep is bounded, and the changes of the others arrive beside it.
import assert from 'node:assert/strict'
import type { PeersAnswer } from '../../src/api/answers.ts'
import type { Cluster } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { crypto } from './attacker.ts'
import { state } from './forgery.ts'
import { ask, SCALE, type HostileMember, type World } from './world.ts'

const ALL: readonly Cluster[] = ['west', 'east', 'edge']
// Above the bound of one origin (200,000). make soak: a million and more.
const MANY = 210_000 * SCALE
const AGENTS = 6
const RECORDS_OF_EACH = 5000 * SCALE
const LARGE = 150 * SCALE
const LARGE_BYTES = 60_000
// What all clusters together may take (room-budget.ts), with the states that are not complete yet.
const ROOM_KB = (192 + 168) * 1024

export function volumeClaims(world: () => World): void {
  describe('a cluster with much to say', () => {
    let member: HostileMember

    before(async () => {
      await world().complete()
      member = await world().member('loud')
    })

    afterEach(() => world().dismiss())

    it(`is refused ${MANY} records of one byte of one agent`, async () => {
      const frames = framesOf(member, tiny(MANY))
      await world().unharmed(ALL, () => speaks(world(), member, frames), ROOM_KB)
      const { peers } = await ask<PeersAnswer>(world().agent('west'), 'peers')
      assert.ok(peers.some(({ cluster, connected }) => cluster === 'east' && connected))
    })

    it(`keeps no others from being heard with ${AGENTS} agents of ${RECORDS_OF_EACH} records, and of ${LARGE} large ones`, async () => {
      const agents = await Promise.all(Array.from({ length: AGENTS }, () => world().sibling(member, 'west')))
      const said = agents.map((agent, at) => {
        const content = at % 2 === 0 ? tiny(RECORDS_OF_EACH) : large(LARGE)
        return [agent, framesOf(agent, content)] as const
      })
      await world().unharmed(
        ALL,
        async () => {
          await Promise.all(said.map(([agent, frames]) => speaks(world(), agent, frames)))
          await world().settled('west', ALL)
        },
        ROOM_KB
      )
    })
  })
}

/** Made before the attack, since this process has the answers to watch meanwhile. */
function framesOf(
  { attacker, redeemed, credential }: HostileMember,
  content: Iterable<readonly [string, Uint8Array]>
): readonly Uint8Array[] {
  return state({ seed: attacker.seed, roots: redeemed.roots }, content, { credential })
}

/** Sends frames to west, as fast as west takes them. */
async function speaks(
  world: World,
  { attacker }: HostileMember,
  frames: readonly Uint8Array[]
): Promise<void> {
  const door = world.door('west')
  for (const frame of frames) {
    if (!attacker.send(door, frame)) return
    await eventually(() => !attacker.isConnected(door) || attacker.queuedBytes(door) < 1024 * 1024)
  }
}

function* tiny(count: number): Iterable<readonly [string, Uint8Array]> {
  const value = new Uint8Array([1])
  for (let index = 0; index < count; index++) yield [`svc/x/${index.toString(36)}`, value]
}

function* large(count: number): Iterable<readonly [string, Uint8Array]> {
  for (let index = 0; index < count; index++) yield [`svc/large/${index}`, crypto.random(LARGE_BYTES)]
}
