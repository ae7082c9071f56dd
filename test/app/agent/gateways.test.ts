// A site without Kubernetes with several gateways: real agents in this process, over loopback and without a data plane.
import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ErrorAnswer, PeersAnswer, ServicesAnswer, StatusAnswer } from '../../../src/api/answers.ts'
import type { GatewayInviteAnswer, InviteAnswer, JoinedAnswer } from '../../../src/api/membership-answers.ts'
import type { TrustAnswer } from '../../../src/api/trust-answers.ts'
import { startAgent, type Agent } from '../../../src/app/agent/agent.ts'
import { becomeGateway } from '../../../src/app/enrolment/gateway-join.ts'
import { createIdentity } from '../../../src/app/identity/identity.ts'
import { createLog } from '../../../src/app/observe/log.ts'
import { resolveSettings } from '../../../src/app/settings/settings.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { openStore, type Identity } from '../../../src/io/store/store.ts'
import { eventually } from '../../eventually.ts'
import { freePort } from '../../ports.ts'

/** One host with an agent. */
class Host {
  readonly folder: string
  readonly control: string
  readonly #flags: Readonly<Record<string, string>>
  #agent: Agent | undefined

  private constructor(folder: string, port: number, flags: Readonly<Record<string, string>>) {
    this.folder = folder
    this.control = `/ip4/127.0.0.1/tcp/${port}`
    this.#flags = flags
  }

  static async make(top: string, name: string, flags: Readonly<Record<string, string>> = {}): Promise<Host> {
    const folder = join(top, name)
    await mkdir(join(folder, 'manifests'), { recursive: true })
    const host = new Host(folder, await freePort(), { 'node-name': name, ...flags })
    await host.start()
    return host
  }

  async start(): Promise<void> {
    const { folder, control } = this
    const flags = {
      'state-dir': join(folder, 'state'),
      socket: join(folder, 's'),
      manifests: join(folder, 'manifests'),
      source: 'folder',
      dataplane: 'off',
      listen: control,
      announce: control,
      'probe-port': '0',
      'dns-listen': 'off',
      'http-listen': 'off',
      'feed-listen': 'off',
      ...this.#flags
    }
    this.#agent = await startAgent(
      resolveSettings({ flags, env: {}, file: undefined }),
      createLog({ 'log-level': 'error', 'log-format': 'text' })
    )
  }

  async stop(): Promise<void> {
    await this.#agent?.stop()
    this.#agent = undefined
  }

  ask<T>(path: string, body?: object): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const method = body === undefined ? 'GET' : 'POST'
    const call = request({ socketPath: join(this.folder, 's'), path, method }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (chunk: string) => (text += chunk))
      response.on('end', () => resolve(JSON.parse(text) as T))
    })
    call.on('error', reject)
    if (body !== undefined) call.setHeader('content-type', 'application/json')
    call.end(body === undefined ? undefined : JSON.stringify(body))
    return promise
  }

  async inviteGateway(ttlSeconds = 3600): Promise<string> {
    return (await this.ask<GatewayInviteAnswer>('/v1/invite/gateway', { ttlSeconds })).token
  }

  async join(token: string): Promise<JoinedAnswer> {
    return this.ask<JoinedAnswer>('/v1/join', { token })
  }

  /** The code of a refused join. */
  async refused(token: string): Promise<{ readonly code: string; readonly message: string }> {
    const { error } = await this.ask<ErrorAnswer>('/v1/join', { token })
    return error
  }

  async identity(): Promise<Identity> {
    const text = await readFile(join(this.folder, 'state', 'identity.json'), 'utf8')
    return (JSON.parse(text) as { identity: Identity }).identity
  }

  status(): Promise<StatusAnswer> {
    return this.ask<StatusAnswer>('/v1/status')
  }

  async invites(): Promise<TrustAnswer['invites']> {
    return (await this.ask<TrustAnswer>('/v1/trust')).invites
  }

  /** PeerIds of the other agents of a cluster that are connected. */
  async connected(cluster: string): Promise<readonly string[]> {
    const { peers } = await this.ask<PeersAnswer>('/v1/peers')
    return peers
      .filter((row) => row.cluster === cluster && row.connected && row.state !== 'self')
      .map(({ peerId }) => peerId)
  }
}

describe('several gateways of a site without Kubernetes', function () {
  this.timeout(120_000)
  let top: string
  const hosts: Host[] = []
  const host = async (name: string, flags?: Readonly<Record<string, string>>): Promise<Host> => {
    const made = await Host.make(top, name, flags)
    hosts.push(made)
    return made
  }

  beforeEach(async () => {
    top = await mkdtemp(join(tmpdir(), 'rhz-gw-'))
  })

  afterEach(async () => {
    await Promise.all(hosts.splice(0).map((each) => each.stop()))
    await rm(top, { recursive: true, force: true })
  })

  const found = (on: Host, cluster: string, n: number) =>
    on.ask<JoinedAnswer>('/v1/init', {
      cluster,
      podCidrs: [`10.${n}.0.0/16`],
      serviceCidrs: [`10.10${n}.0.0/16`]
    })

  const inviteEdge = async (west: Host): Promise<string> => {
    const prefixes = { podCidrs: ['10.3.0.0/16'], serviceCidrs: ['10.103.0.0/16'] }
    const request = { cluster: 'edge', ...prefixes, ttlSeconds: 3600, bootstrap: [] }
    return (await west.ask<InviteAnswer>('/v1/invite', request)).token
  }

  it('share the key of the cluster: the new one is of the same cluster for all, and holds no seat and no root', async () => {
    const [west, first, second] = [await host('west'), await host('edge-1'), await host('edge-2')]
    await found(west, 'west', 1)
    const token = await inviteEdge(west)
    await first.join(token)
    // No administrator's seat is needed: edge is an invited cluster.
    const pass = await first.inviteGateway()
    assert.match(pass, /^rzg2_/)
    const joined = await second.join(pass)
    assert.deepEqual([joined.cluster, joined.gateway, joined.podCidrs], ['edge', true, ['10.3.0.0/16']])
    const [one, two] = [await first.identity(), await second.identity()]
    assert.equal(two.clusterSeed, one.clusterSeed)
    assert.notEqual(two.nodeSeed, one.nodeSeed)
    assert.deepEqual([two.seats, two.rootSeeds], [[], []])
    await eventually(async () => (await west.connected('edge')).length === 2, 60_000)
    assert.equal((await second.join(pass)).already, true)
    const [row] = await first.invites()
    assert.deepEqual([row?.state, row?.gateway?.usedBy], ['used', joined.peerId])
    for (const each of [first, second])
      assert.ok(!JSON.stringify(await each.status()).includes(one.clusterSeed ?? 'none'))
  })

  it('the founder invites one, too, and does not give its seats and root keys away', async () => {
    const [first, second] = [await host('edge-1'), await host('edge-2')]
    await found(first, 'edge', 3)
    await second.join(await first.inviteGateway())
    const [one, two] = [await first.identity(), await second.identity()]
    assert.equal(one.rootSeeds?.length, 1)
    assert.deepEqual([two.seats, two.rootSeeds, two.clusterSeed], [[], [], one.clusterSeed])
    const denied = await second.ask<ErrorAnswer>('/v1/invite', {
      cluster: 'x',
      podCidrs: [],
      serviceCidrs: [],
      ttlSeconds: 60,
      bootstrap: []
    })
    assert.equal(denied.error.code, 'NO_SEAT')
    // Every gateway of the cluster can invite the next one.
    const third = await host('edge-3')
    assert.equal((await third.join(await second.inviteGateway())).cluster, 'edge')
  })

  it('a token gives the key to one agent: another one hears `used`, with the PeerId of the first, and gets nothing', async () => {
    const [first, thief, honest] = [await host('edge-1'), await host('thief'), await host('edge-2')]
    await found(first, 'edge', 3)
    const token = await first.inviteGateway()
    const { peerId } = await thief.join(token)
    const { code, message } = await honest.refused(token)
    assert.equal(code, 'MESH_USED')
    assert.ok(message.includes(peerId), message)
    assert.equal((await honest.identity()).clusterSeed, undefined)
    assert.equal((await honest.status()).state, 'unjoined')
    // A slow answer is asked for again.
    assert.ok(((await first.status()).refused?.['handshake used'] ?? 0) >= 1)
    // After a restart of the gateway it is still used, and the same agent gets the same key again.
    await first.stop()
    await first.start()
    assert.equal((await honest.refused(token)).code, 'MESH_USED')
  })

  it('an agent that crashed before it had the answer gets the same key again, and its PeerId only', async () => {
    const [first, second] = [await host('edge-1'), await host('edge-2')]
    await found(first, 'edge', 3)
    const before = await second.identity()
    const token = await first.inviteGateway()
    await second.join(token)
    const { clusterSeed, nodeSeed } = await second.identity()
    // The disk as it was before the answer came.
    await second.stop()
    await rm(join(second.folder, 'state'), { recursive: true })
    await mkdir(join(second.folder, 'state'), { mode: 0o700 })
    const store = await openStore({ folder: join(second.folder, 'state'), now: Date.now })
    await store.saveIdentity({ nodeSeed: before.nodeSeed, tunnelSeed: before.tunnelSeed })
    await store.close()
    await second.start()
    await second.join(token)
    const again = await second.identity()
    assert.deepEqual([again.clusterSeed, again.nodeSeed], [clusterSeed, nodeSeed])
  })

  it('an expired, a cancelled and a damaged token give nothing', async () => {
    const [first, second] = [await host('edge-1'), await host('edge-2')]
    await found(first, 'edge', 3)
    const cancelled = await first.inviteGateway()
    assert.deepEqual(
      (await first.invites()).map(({ state }) => state),
      ['open']
    )
    assert.deepEqual(
      await first
        .ask<object>('/v1/invite/gateway/cancel', {})
        .then((answer) => Reflect.get(answer, 'cancelled')),
      1
    )
    assert.equal((await second.refused(cancelled)).code, 'MESH_CANCELLED')
    const none = await first.ask<ErrorAnswer>('/v1/invite/gateway/cancel', {})
    assert.equal(none.error.code, 'NO_INVITE')
    const expired = await first.inviteGateway(1)
    await eventually(async () => (await first.invites()).some(({ state }) => state === 'expired'))
    assert.equal((await second.refused(expired)).code, 'MESH_EXPIRED')
    assert.equal((await second.refused(expired.slice(0, -2))).code, 'TOKEN_DAMAGED')
    assert.equal((await second.identity()).clusterSeed, undefined)
  })

  it('with different manifests: those of the speaker count, and the other gateway says what differs', async () => {
    const [first, second] = [await host('edge-1'), await host('edge-2')]
    await found(first, 'edge', 3)
    const manifest = (name: string, last: number) =>
      `apiVersion: v1\nkind: Service\nmetadata: { name: ${name}, namespace: shop }\nspec: { clusterIP: 10.103.0.${last}, ports: [{ port: 80 }] }\n`
    await writeFile(join(first.folder, 'manifests', 'web.yaml'), manifest('web', 1))
    await writeFile(join(second.folder, 'manifests', 'web.yaml'), manifest('web', 1))
    await second.join(await first.inviteGateway())
    const names = async (at: Host) =>
      (await at.ask<ServicesAnswer>('/v1/services')).services.map(({ name }) => name).join()
    const fault = async () =>
      (await second.status()).health?.faults.find(({ code }) => code === 'MANIFESTS_DIFFER')
    await eventually(async () => (await names(second)) === 'web', 60_000)
    await eventually(async () => (await fault()) === undefined)
    await writeFile(join(second.folder, 'manifests', 'db.yaml'), manifest('db', 2))
    await eventually(async () => (await fault())?.message.includes('(shop/db)') === true, 60_000)
    for (const at of [first, second]) assert.equal(await names(at), 'web')
    await writeFile(join(first.folder, 'manifests', 'db.yaml'), manifest('db', 2))
    await eventually(async () => (await names(second)) === 'db,web' && (await fault()) === undefined, 60_000)
  })

  it('give one token to one of two that ask at the same time', async () => {
    const [first, one, two] = [await host('edge-1'), await host('edge-2'), await host('edge-3')]
    await found(first, 'edge', 3)
    const token = await first.inviteGateway()
    const answers = await Promise.all(
      [one, two].map((each) => each.ask<ErrorAnswer | JoinedAnswer>('/v1/join', { token }))
    )
    const codes = answers.map((answer) => ('error' in answer ? answer.error.code : 'joined'))
    assert.deepEqual(codes.toSorted(), ['MESH_USED', 'joined'])
  })

  it('a gateway that leaves is no member any more, its cluster is, and its open invites end with it', async () => {
    const [west, first, second] = [await host('west'), await host('edge-1'), await host('edge-2')]
    await found(west, 'west', 1)
    const token = await inviteEdge(west)
    const { peerId } = await first.join(token)
    await second.join(await first.inviteGateway())
    const open = await first.inviteGateway()
    await eventually(async () => (await west.connected('edge')).length === 2, 60_000)
    await eventually(async () => (await first.connected('edge')).length === 1, 60_000)
    await first.ask('/v1/leave', { force: false })
    await eventually(async () => {
      const { peers } = await west.ask<PeersAnswer>('/v1/peers')
      const rows = peers.filter(({ cluster }) => cluster === 'edge')
      assert.equal(rows.length, 1)
      assert.notEqual(rows[0]?.peerId, peerId)
      return true
    }, 60_000)
    const { clusters } = await west.ask<TrustAnswer>('/v1/trust')
    assert.equal(clusters.find(({ name }) => name === 'edge')?.stands, true)
    await assert.rejects(stat(join(first.folder, 'state', 'gateways.json')))
    assert.equal((await (await host('edge-3')).refused(open)).code, 'UNREACHABLE')
  })

  it('a gateway that leaves before it has heard of the one to which it gave the key does not end the cluster', async () => {
    const [west, first] = [await host('west'), await host('edge-1')]
    await found(west, 'west', 1)
    await first.join(await inviteEdge(west))
    await eventually(async () => (await first.connected('west')).length === 1, 60_000)
    // It has the key, and has not connected as a member yet.
    const crypto = createCrypto()
    const log = createLog({ 'log-level': 'error', 'log-format': 'text' })
    const token = await first.inviteGateway()
    const given = await becomeGateway(token, createIdentity(crypto), {
      crypto,
      log,
      hasSecret: false,
      deadlineMs: 60_000
    })
    assert.equal(given.clusterSeed, (await first.identity()).clusterSeed)
    const { peerId } = await first.status()
    await first.ask('/v1/leave', { force: false })
    await eventually(async () => {
      const { peers } = await west.ask<PeersAnswer>('/v1/peers')
      return peers.every((row) => row.peerId !== peerId)
    }, 60_000)
    const { clusters } = await west.ask<TrustAnswer>('/v1/trust')
    assert.equal(clusters.find(({ name }) => name === 'edge')?.stands, true)
  })

  it('says for which cluster the token is where it cannot be used', async () => {
    const [west, first] = [await host('west'), await host('edge-1')]
    await found(west, 'west', 1)
    await found(first, 'edge', 3)
    const { code, message } = await west.refused(await first.inviteGateway())
    assert.equal(code, 'ALREADY_JOINED')
    assert.match(message, /the token is for one more gateway of cluster edge/)
  })
})
