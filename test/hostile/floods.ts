// Claim 3: a neighbour that floods is disconnected and banned within seconds, and floods of well-formed frames cost the honest agents nothing but time.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { encodeItem, openItem } from '../../src/core/trust/set/form.ts'
import { signStatement } from '../../src/core/trust/set/signatures.ts'
import { encodeFrame } from '../../src/core/wire/messages.ts'
import type { Cluster } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { crypto, originOfDoor } from './attacker.ts'
import { claim, falseEquivocation, service, state, values, vote } from './forgery.ts'
import { SCALE, type HostileMember, type World } from './world.ts'

const ALL: readonly Cluster[] = ['west', 'east', 'edge']
// Of one attacker. All that a machine of two processors sends beside its other work.
const FRAMES_PER_TICK = 20
const TICK_MS = 50
// From the first frame to the end of the connection, on an idle machine.
const BANNED_MS = 5000
const FLOOD_MS = 3000 * SCALE

/** Makes one frame of a flood. */
type Flood = (of: HostileMember, world: World) => Uint8Array

/** What no honest agent sends. */
const OFFENCES: Readonly<Record<string, Flood>> = {
  'bad signatures of own states': ({ attacker, redeemed: { roots } }) =>
    first(
      state({ seed: attacker.seed, roots }, values({ 'svc/shop/web': service('10.9.0.1') }), {
        forged: 'signature'
      })
    ),
  "states of another's with a signature of its own": ({ attacker, redeemed: { roots } }, world) =>
    first(
      state({ seed: attacker.seed, roots }, values({ 'svc/shop/web': service('10.9.0.1') }), {
        of: originOfDoor(world.door('east'))
      })
    ),
  // Each has another nonce, so none is known from the one before.
  'forged statements': ({ redeemed: { roots, certItem } }) => {
    const opened = openItem({ crypto, roots }, certItem)
    assert.equal(opened.kind, 'item')
    const last = opened.statements.at(-1)?.statement
    assert.ok(last)
    const seed = crypto.random(32)
    const { envelope } = signStatement({ crypto, roots }, last, { issuer: seed, accepting: seed })
    const item = encodeItem([...opened.statements.slice(0, -1).map((one) => one.envelope), envelope])
    return encodeFrame({ trustItems: { items: [item] } })
  },
  junk: () => new Uint8Array(16 * 1024).fill(0xff),
  'heads without their form': () =>
    encodeFrame({ delta: { head: { head: randomBytes(80), signature: randomBytes(64) } } }),
  'proofs of a double signature that are none': ({ attacker, redeemed: { roots } }, world) =>
    falseEquivocation({ seed: attacker.seed, roots }, originOfDoor(world.door('edge')))
}

/** What an honest agent sends, too, but never so much of it. */
const WELL_FORMED: Readonly<Record<string, Flood>> = {
  'claims of heads': (_of, world) => claim(ALL.map((cluster) => originOfDoor(world.door(cluster)))),
  prunes: (_of, world) =>
    encodeFrame({ prune: { origins: ALL.map((cluster) => originOfDoor(world.door(cluster))) } }),
  votes: ({ attacker, redeemed: { roots } }, world) =>
    vote({ seed: attacker.seed, roots }, originOfDoor(world.door('edge')), 0),
  'digests of trust': () => encodeFrame({ trustDigests: { digests: randomBytes(4096), from: 0 } }),
  pulls: (_of, world) =>
    encodeFrame({ pull: { origin: originOfDoor(world.door('east')), epoch: 0, fromSeq: 0, window: 0 } }),
  pings: () => encodeFrame({ ping: { id: 1, digest: 7 } })
}

export function floodClaims(world: () => World): void {
  describe('a flood', () => {
    let member: HostileMember

    before(async () => {
      await world().complete()
      member = await world().member('flood')
    })

    afterEach(() => world().dismiss())

    it('of one identity ends its connection within seconds, with a ban, whatever the flood is of', async () => {
      await world().unharmed(ALL, async () => {
        for (const [name, flood] of Object.entries(OFFENCES)) {
          const one = await world().sibling(member, 'west')
          await endsInABan([{ name, flood, of: one }], world())
        }
      })
    })

    it('of six identities at once ends the connections of all six', async () => {
      const six = await Promise.all(
        Object.entries(OFFENCES).map(async ([name, flood]) => ({
          name,
          flood,
          of: await world().sibling(member, 'west')
        }))
      )
      await world().unharmed(ALL, () => endsInABan(six, world()))
    })

    it('of well-formed frames by six identities takes no answer and no neighbour from the others', async () => {
      const six = await Promise.all(
        Object.values(WELL_FORMED).map(async (flood) => ({
          flood,
          of: await world().sibling(member, 'west')
        }))
      )
      await world().unharmed(ALL, async () => {
        const stop = six.map(({ of, flood }) => pour(of, flood, world()))
        await new Promise((resolve) => {
          setTimeout(resolve, FLOOD_MS)
        })
        for (const end of stop) end()
        // Before the measurement the agent works off what has arrived.
        await Promise.all(six.map(({ of }) => of.attacker.stop()))
      })
    })
  })
}

/** All of them flood west until each is banned. */
async function endsInABan(
  floods: readonly { readonly name: string; readonly flood: Flood; readonly of: HostileMember }[],
  world: World
): Promise<void> {
  const door = world.door('west')
  const stop = floods.map(({ of, flood }) => pour(of, flood, world))
  try {
    await eventually(() => {
      const left = floods.filter(({ of }) => of.attacker.isConnected(door)).map(({ name }) => name)
      assert.deepEqual(left, [], 'they are still connected')
      return true
    }, BANNED_MS)
    for (const { of } of floods)
      await world.told('west', { kind: 'banned', of: of.attacker, cluster: 'flood' })
    // The first ban is short: of many, the first one is over before the last is found.
    for (const { of } of floods.length === 1 ? floods : [])
      assert.ok(!(await of.attacker.dial(door)), 'it connected again at once')
  } finally {
    for (const end of stop) end()
  }
}

/** Sends frames to west without a pause. Returns what ends it. */
function pour(of: HostileMember, flood: Flood, world: World): () => void {
  const door = world.door('west')
  const timer = setInterval(() => {
    for (let index = 0; index < FRAMES_PER_TICK; index++)
      if (!of.attacker.send(door, flood(of, world))) return
  }, TICK_MS)
  return () => clearInterval(timer)
}

function first(frames: readonly Uint8Array[]): Uint8Array {
  const [frame] = frames
  assert.ok(frame)
  return frame
}
