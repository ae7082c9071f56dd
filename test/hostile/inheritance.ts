// Claim 10: the new key of a cluster goes to the gateways that a person named at `meshctl key rotate --cluster --keep`, and to nobody
// else: not to a thief of the old key, not to a gateway that was not named or was revoked, not to another cluster.
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { TrustAnswer } from '../../src/api/trust-answers.ts'
import { askForKey } from '../../src/app/enrolment/gateway-join.ts'
import { AppError } from '../../src/app/observe/errors.ts'
import { decodeGatewayToken, type GatewayToken } from '../../src/core/trust/gateway-token.ts'
import { encodeItem, openItem } from '../../src/core/trust/set/form.ts'
import { type KeyId, keyId } from '../../src/core/trust/set/ids.ts'
import { signStatement } from '../../src/core/trust/set/signatures.ts'
import type { Cluster } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { type Attacker, credentialFor, crypto } from './attacker.ts'
import { ask, type World } from './world.ts'

const ALL: readonly Cluster[] = ['west', 'east', 'edge']
const DEADLINE_MS = 10_000

/** An agent of the cluster west that has its key by a token, as a gateway of the site. */
interface Gateway {
  readonly attacker: Attacker
  readonly clusterSeed: Uint8Array
  readonly clusterItem: Uint8Array
}

export function inheritanceClaims(world: () => World): void {
  describe('the new key of a cluster', () => {
    let [heir, revoked, unnamed]: Gateway[] = []
    let unused: GatewayToken
    let clusterKey: KeyId
    let gift: Awaited<ReturnType<typeof askForKey>> | undefined
    const need = (of: Gateway | undefined): Gateway => of ?? assert.fail('the gateway has no key')

    before(async () => {
      await world().complete()
      heir = await gateway()
      revoked = await gateway()
      unnamed = await gateway()
      unused = await token()
      const others = [heir, revoked, unnamed].map(({ attacker }) => attacker)
      await eventually(() => others.every((one) => one.isIn(world().door('west'))))
    })

    after(() => world().dismiss())

    it('goes to no agent but those that were named: with the old key, with an old token, from another cluster', async () => {
      const outsider = await world().member('outsider')
      const thief = await world().attacker(outsider.redeemed)
      await world().unharmed(ALL, async () => {
        const named = [heir, revoked].map((one) => need(one).attacker.origin)
        await world()
          .agent('west')
          .done('key', 'rotate', '--cluster', '--force', '--keep', ...named)
        const { clusters } = await ask<TrustAnswer>(world().agent('west'), 'trust')
        clusterKey = clusters.find(({ name, stands }) => name === 'west' && stands)?.key as KeyId
        assert.notEqual(clusterKey, keyOf(need(heir)))
        // A gateway that has not heard of the rotation signs with the old key that this agent ended.
        outsider.attacker.offer(world().door('west'), [bar(need(revoked))])
        await eventually(async () => (await codeFor(need(revoked).attacker)) === 'MESH_BARRED')
        for (const each of [need(unnamed).attacker, outsider.attacker, thief])
          assert.equal(await codeFor(each), 'MESH_CANCELLED')
        assert.equal(await codeFor(thief, unused), 'MESH_CANCELLED')
      })
      for (const asked of [need(unnamed).attacker, thief])
        await world().told('west', { kind: 'refused', of: asked, reason: /^handshake cancelled/ })
    })

    it('goes to a gateway that was named, also after a restart, and not once it is revoked', async () => {
      assert.equal(await codeFor(need(heir).attacker), 'given')
      await world().restart('west')
      for (const at of ALL) await world().settled(at, ALL)
      assert.equal(await codeFor(need(heir).attacker), 'given')
      assert.equal(await codeFor(need(unnamed).attacker), 'MESH_CANCELLED')
      assert.equal(await codeFor(need(revoked).attacker), 'MESH_BARRED')
      // It comes back with the new key, and the cluster ends it.
      const { attacker } = need(heir)
      const { roots, clusterSeed, membership } = gift?.secret ?? assert.fail()
      assert.ok(membership.kind === 'member')
      await attacker.enter(
        world().door('west'),
        credentialFor({ roots, clusterSeed }, membership.item, attacker.seed, gift?.generation)
      )
      await world().agent('west').done('revoke', attacker.origin)
      assert.equal(await codeFor(attacker), 'MESH_BARRED')
    })

    /** How the request of an agent ends; its own key is the secret, as that of an heir, unless it has a token. */
    async function codeFor({ seed }: Attacker, by?: GatewayToken): Promise<string> {
      const { roots, cluster } = unused
      const asked = { roots, cluster, clusterKey, seed: by?.seed ?? seed, bootstrap: [world().door('west')] }
      try {
        gift = await askForKey(asked, seed, { crypto, log: SILENT, deadlineMs: DEADLINE_MS })
        const { secret } = gift
        assert.equal(keyId(crypto.publicKeyOf(secret.clusterSeed)), clusterKey)
        assert.deepEqual([secret.seats, secret.rootSeeds], [[], []])
        return 'given'
      } catch (error) {
        if (error instanceof AppError) return error.code
        throw error
      }
    }

    async function token(): Promise<GatewayToken> {
      const { stdout } = await world().agent('west').done('invite', '--gateway')
      world().tokens.push(stdout.trim())
      const decoded = decodeGatewayToken(crypto, stdout.trim())
      return decoded.kind === 'token' ? decoded : assert.fail(decoded.message)
    }

    async function gateway(): Promise<Gateway> {
      const [made, seed] = [await token(), randomBytes(32)]
      const options = { crypto, log: SILENT, deadlineMs: DEADLINE_MS }
      const { secret, generation } = await askForKey(made, seed, options)
      const { roots, clusterSeed, membership } = secret
      assert.ok(membership.kind === 'member')
      const attacker = await world().attacker({ roots }, seed)
      const { item } = membership
      await attacker.enter(
        world().door('west'),
        credentialFor({ roots, clusterSeed }, item, seed, generation)
      )
      return { attacker, clusterSeed, clusterItem: item }
    }
  })
}

const SILENT = { info: () => undefined, warn: () => undefined } as never

function keyOf({ clusterSeed }: Pick<Gateway, 'clusterSeed'>): KeyId {
  return keyId(crypto.publicKeyOf(clusterSeed))
}

/** A Bar of an agent that its cluster signs with the key that it had. */
function bar({ attacker: { roots, seed }, clusterSeed, clusterItem }: Gateway): Uint8Array {
  const context = { crypto, roots }
  const opened = openItem(context, clusterItem)
  assert.ok(opened.kind === 'item')
  const draft = {
    kind: 'bar' as const,
    by: { cluster: keyOf({ clusterSeed }) },
    target: { agent: keyId(crypto.publicKeyOf(seed)) },
    keepOnly: undefined
  }
  const { envelope } = signStatement(context, draft, { issuer: clusterSeed })
  return encodeItem([...opened.statements.map((one) => one.envelope), envelope])
}
