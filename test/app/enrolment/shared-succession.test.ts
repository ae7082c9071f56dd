// Two gateways of one Kubernetes cluster, and a new key of it: real agents in this process, which end at a write.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KeySuccession } from '../../../src/app/enrolment/key-succession.ts'
import { bytes } from '../../../src/app/identity/encoding.ts'
import { rootsOf } from '../../../src/app/identity/identity.ts'
import { createInvite } from '../../../src/core/trust/author/join.ts'
import { encodeInviteToken } from '../../../src/core/trust/invite-token.ts'
import { keyId, type KeyId } from '../../../src/core/trust/set/ids.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { cidr, clusterName } from '../../core/trust/fixtures.ts'
import { eventually } from '../../eventually.ts'
import { freePort } from '../../ports.ts'
import { SILENT } from '../control/trust-parts.ts'
import { FakeSecrets } from './fake-secrets.ts'
import { MortalAgent, type Death } from './mortal-agent.ts'

const crypto = createCrypto()
/** The writes of a rotation, in their order; the second one decides. */
const POINTS = ['Secret member #0', 'identity member, certified #0'] as const

describe('a new key for a cluster with two gateways', function () {
  this.timeout(300_000)
  let top = ''
  let api: FakeSecrets
  let agents: MortalAgent[]
  let west: MortalAgent

  beforeEach(async () => {
    top = mkdtempSync(join(tmpdir(), 'succession-'))
    api = new FakeSecrets()
    agents = []
    west = await started('west', undefined, await freePort())
    await west.enrolment.init({ cluster: 'west', podCidrs: ['10.1.0.0/16'], serviceCidrs: ['10.101.0.0/16'] })
  })

  afterEach(async () => {
    await Promise.all(agents.map((one) => one.stop()))
    rmSync(top, { recursive: true, force: true })
  })

  it('is taken by the other gateway from the Secret, and both stand by it on the other members', async () => {
    const { first, second } = await gateways()
    const before = keyOf(first)
    const { clusterKey, ended } = await rotate(first)
    assert.deepEqual(ended, [])
    await agree([first, second], clusterKey)
    assert.notEqual(clusterKey, before)
  })

  for (const point of POINTS)
    for (const when of ['before', 'after'] as const)
      it(`is one key for all when the agent is killed ${when} the write ${point}`, async () => {
        const { first, second, port } = await gateways()
        const before = keyOf(first)
        await first.stop()
        const mortal = await started('east-1', api, port, { point, when })
        await eventually(() => west.control.neighbours().includes(mortal.control.origin))
        await assert.rejects(rotate(mortal))
        assert.ok(mortal.isDead, 'it did not die')
        await mortal.stop()
        const again = await started('east-1', api, port)
        const isDecided = point === POINTS[1] && when === 'after'
        assert.equal(keyOf(again) === before, !isDecided)
        await agree([again, second], keyOf(again))
      })

  async function started(
    name: string,
    secrets: FakeSecrets | undefined,
    port: number,
    death?: Death
  ): Promise<MortalAgent> {
    const agent = new MortalAgent({ folder: join(top, name), secrets, port }, death)
    agents.push(agent)
    await agent.start()
    return agent
  }

  /** West, and two gateways of east that west knows. */
  async function gateways() {
    const port = await freePort()
    const first = await started('east-1', api, port)
    await first.join(token())
    const second = await started('east-2', api, await freePort())
    await second.enrolment.join({ token: undefined })
    await eventually(() =>
      [first, second].every(({ control }) => west.control.neighbours().includes(control.origin))
    )
    return { first, second, port }
  }

  function token(replaces?: KeyId): string {
    const { identity } = west
    const roots = rootsOf(identity, crypto) ?? assert.fail()
    const [seat] = identity.seats ?? []
    const now = Math.floor(Date.now() / 1000)
    const { item: inviteItem, inviteSeed } = createInvite(
      { crypto, roots },
      {
        seatItem: bytes(seat?.seatItem ?? ''),
        adminSeed: bytes(seat?.adminSeed ?? ''),
        cluster: clusterName('east'),
        pods: [cidr('10.2.0.0/16')],
        services: [cidr('10.102.0.0/16')],
        namespaces: [],
        notBefore: now - 60,
        notAfter: now + 3600,
        replaces
      }
    )
    const { origin, transport } = west.control
    const bootstrap = transport.listenAddresses().map((address) => `${address}/p2p/${origin}`)
    return encodeInviteToken(crypto, { roots, inviteItem, inviteSeed, bootstrap: bootstrap.slice(0, 1) })
  }

  function rotate(agent: MortalAgent) {
    const { current, store, sharedKey, enrolment } = agent
    const invitations = { invite: () => assert.fail('the token is of west') }
    const gateways = { keepHeirs: async () => undefined }
    const parts = { current, store, sharedKey, enrolment, gateways, invitations, crypto, log: SILENT }
    return new KeySuccession(parts).rotate({ token: token(keyOf(agent)), keep: [], force: false })
  }

  /** All have this key, and stand by it for west, which is connected to them. */
  async function agree(of: readonly MortalAgent[], key: KeyId): Promise<void> {
    await eventually(() => {
      for (const agent of of) {
        // As PartWatch does when it sees that the key was replaced.
        if (keyOf(agent) !== key || api.key?.membership.clusterKey !== key) agent.sharedKey?.hurry()
        const { origin } = agent.control
        assert.equal(keyOf(agent), key)
        assert.equal(west.control.members.agentOf(origin)?.clusterKey, key)
        assert.ok(west.control.neighbours().includes(origin))
      }
      return api.key?.membership.clusterKey === key
    }, 90_000)
  }

  function keyOf({ identity }: MortalAgent): KeyId {
    return keyId(crypto.publicKeyOf(bytes(identity.clusterSeed ?? '')))
  }
})
