// How a gateway asks for the new key of its cluster. The other gateways are fakes; test/hostile/inheritance.ts has real ones.
import assert from 'node:assert/strict'
import { base64 } from '../../../src/app/identity/encoding.ts'
import { KeyInheritance } from '../../../src/app/enrolment/key-inheritance.ts'
import { CurrentSession } from '../../../src/app/session/current-session.ts'
import { GATEWAY_BOOTSTRAP_MAX } from '../../../src/core/trust/door/frames.ts'
import { keyId } from '../../../src/core/trust/set/ids.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import type { Identity } from '../../../src/io/store/store.ts'

const crypto = createCrypto()
const newKey = () => keyId(crypto.publicKeyOf(crypto.random(32)))
const many = (host: number, count: number) =>
  Array.from({ length: count }, (_, port) => `/ip4/192.0.2.${host}/tcp/${7000 + port}`)

/** The agent "self" of cluster west, whose key has lost its place to `heir`, and the other gateways that it knows. */
class World {
  readonly clusterSeed = crypto.random(32)
  heir = newKey()
  identity: Identity = {
    nodeSeed: base64(crypto.random(32)),
    tunnelSeed: base64(crypto.random(32)),
    bootstrap: []
  }
  /** The multiaddrs of each agent of the cluster, in the order of the view. */
  agents: Readonly<Record<string, readonly string[]>> = { self: many(1, 1), honest: many(2, 1) }
  /** What happens while a gateway answers. */
  whileAsked: () => void = () => undefined
  readonly asked: string[] = []
  /** The addresses on disk after each change; "key" stands for the change that takes the key. */
  readonly changes: (readonly string[])[] = []

  /** Looks once, and returns when the round of questions has ended. */
  async round(): Promise<void> {
    const current = new CurrentSession()
    current.set(this.#session() as never)
    const inheritance = new KeyInheritance({
      current,
      crypto,
      log: { info: () => undefined, warn: assert.fail } as never,
      sharedKey: undefined,
      source: { refresh: () => undefined },
      enrolment: { isChanging: false, isLeaving: false },
      store: { identity: () => this.identity, changeIdentity: (change) => this.#change(change) },
      ask: async ({ bootstrap }) => {
        this.asked.push(...bootstrap.slice(0, 1))
        this.whileAsked()
        return { kind: 'given', generation: 1, secret: { bootstrap: [] } } as never
      }
    })
    inheritance.look(true)
    // The rounds end here, but the one that has begun does its whole work: stop() waits for it, and would end it.
    await settled()
    await inheritance.stop()
  }

  #session(): object {
    const own = keyId(crypto.publicKeyOf(this.clusterSeed))
    const standing = () => ({
      clusters: new Map([
        [this.heir, { key: this.heir, name: 'west', verdict: { stands: true }, line: [own] }]
      ])
    })
    const agents = Object.entries(this.agents).map(([origin, multiaddrs]) => ({
      origin,
      agent: { multiaddrs }
    }))
    const view = () => ({ self: 'west', clusters: new Map([['west', { agents }]]) })
    return {
      membership: { cluster: 'west', roots: {}, clusterSeed: this.clusterSeed },
      control: { origin: 'self', view, members: { standing, verdictOn: () => ({ kind: 'stands' }) } }
    }
  }

  /** The key itself is not read: that it is to be taken is what these tests ask. */
  async #change(change: (before: Identity) => Identity): Promise<Identity | undefined> {
    if (this.asked.length > 0) {
      this.changes.push(['key'])
      return undefined
    }
    this.identity = change(this.identity)
    this.changes.push(this.identity.bootstrap ?? [])
    return this.identity
  }
}

describe('a gateway whose cluster has a new key', () => {
  it('keeps the addresses of the others on disk, asks, and takes the key', async () => {
    const world = new World()
    await world.round()
    assert.deepEqual(world.asked, ['/ip4/192.0.2.2/tcp/7000/p2p/honest'])
    assert.deepEqual(world.changes, [['/ip4/192.0.2.2/tcp/7000/p2p/honest'], ['key']])
  })

  it('keeps an address of each gateway, however many a thief of the old key announces', async () => {
    const world = new World()
    const thieves = [3, 4, 5].map((host) => [`thief${host}`, many(host, GATEWAY_BOOTSTRAP_MAX)] as const)
    world.agents = { ...Object.fromEntries(thieves), self: many(1, 1), honest: many(2, 2) }
    await world.round()
    const [kept = []] = world.changes
    assert.equal(kept.length, GATEWAY_BOOTSTRAP_MAX)
    assert.deepEqual(
      kept.filter((address) => address.endsWith('/p2p/honest')),
      many(2, 2).map((address) => `${address}/p2p/honest`)
    )
  })

  it('takes no key that lost the place of the cluster while the other gateway answered', async () => {
    const world = new World()
    world.whileAsked = () => {
      world.heir = newKey()
    }
    await world.round()
    assert.equal(world.asked.length, 1)
    assert.deepEqual(world.changes.slice(1), [], 'the addresses alone are on disk')
  })
})

/** Resolves after the promises that are settled already have run their reactions, 50 times. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve()
}
