// P6: an agent that is killed at any write of a join leaves at most one cluster key for one token.
// The writes of both sides are listed by a run without a death; then newcomer and sponsor end before and after each of
// them, start again, and the newcomer joins again with the same token.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bytes } from '../../../src/app/identity/encoding.ts'
import { rootsOf } from '../../../src/app/identity/identity.ts'
import { createInvite } from '../../../src/core/trust/author/join.ts'
import { encodeInviteToken } from '../../../src/core/trust/invite-token.ts'
import { keyId, type StatementId } from '../../../src/core/trust/set/ids.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { codeOf } from '../../../src/core/model/coded-error.ts'
import { eventually } from '../../eventually.ts'
import { freePort } from '../../ports.ts'
import { cidr, clusterName } from '../../core/trust/fixtures.ts'
import { FakeSecrets } from './fake-secrets.ts'
import { burn, MortalAgent, type Death, type Point } from './mortal-agent.ts'

const crypto = createCrypto()
const SIDES = ['newcomer', 'sponsor'] as const
type Side = (typeof SIDES)[number]
// Runs at a time: each waits for timers most of its time.
const AT_ONCE = 4

/** The writes that make P6: a run that does not have them tests nothing. */
const NEEDED: Readonly<Record<Side, readonly Point[]>> = {
  newcomer: [
    'identity pending #0',
    'identity pending, certified #0',
    'identity member, certified #0',
    'trust: admission #0'
  ],
  sponsor: ['trust: admission #0']
}

/** The names of the last writes of either side, in an order that depends on timers. */
const LAST = ['trust: admission', 'generations']

describe('a join that is killed', function () {
  this.timeout(600_000)
  let folder = ''

  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'killed-join-'))
  })

  after(() => rmSync(folder, { recursive: true, force: true }))

  for (const hasSecret of [false, true]) {
    const where = hasSecret ? 'with a Secret' : 'without Kubernetes'

    it(`${where}: at any write of either side, the same token gives the same key, and both sides agree`, async () => {
      const points = await listPoints(hasSecret)
      const deaths = SIDES.flatMap((side) => deathsOf(side, points[side]))
      await eachOf(deaths, async ({ side, death }) => {
        await withPair(hasSecret, async (pair) => {
          await pair.join({ [side]: death })
          assert.ok(pair.hasDied || !NEEDED[side].includes(death.point), 'it did not die')
          await pair.agree()
        })
      })
    })

    it(`${where}: after any write of the newcomer its disk is lost: the token never admits two keys`, async () => {
      const points = await listPoints(hasSecret)
      await eachOf(deathsOf('newcomer', points.newcomer), async ({ death }) => {
        await withPair(hasSecret, async (pair) => {
          const isIn = await pair.join({ newcomer: death, losesDisk: true })
          // A gateway that finds the key in the Secret needs no other.
          if (hasSecret && pair.hadKey) assert.ok(isIn, 'the key in the Secret was not used')
          if (isIn) await pair.agree()
          assert.ok(pair.keysAdmitted().size <= 1)
        })
      })
    })
  }

  /** Names a run in the error that it ends with. */
  async function eachOf(
    all: readonly { readonly side: Side; readonly death: Death }[],
    act: (one: { readonly side: Side; readonly death: Death }) => Promise<void>
  ): Promise<void> {
    const queue = [...all]
    const work = async (): Promise<void> => {
      for (let one = queue.shift(); one !== undefined; one = queue.shift()) {
        const { side, death } = one
        try {
          await act(one)
        } catch (error) {
          throw new Error(`the ${side} killed ${death.when} the write ${death.point}: ${String(error)}`, {
            cause: error
          })
        }
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, work))
  }

  /** The writes of a join that nothing disturbs. */
  async function listPoints(hasSecret: boolean): Promise<Readonly<Record<Side, readonly Point[]>>> {
    return withPair(hasSecret, async (pair) => {
      await pair.join({})
      await pair.agree()
      await eventually(() => SIDES.every((side) => pair[side].points.includes('generations #0')))
      const points = { newcomer: [...pair.newcomer.points], sponsor: pair.pointsOfSponsor() }
      const secret = hasSecret ? (['Secret pending #0', 'Secret member #0'] as const) : []
      for (const side of SIDES)
        for (const point of [...NEEDED[side], ...(side === 'newcomer' ? secret : [])])
          assert.ok(points[side].includes(point), `${side}: no ${point} among ${points[side].join(', ')}`)
      return points
    })
  }

  async function withPair<T>(hasSecret: boolean, act: (pair: Pair) => Promise<T>): Promise<T> {
    const pair = await Pair.open(mkdtempSync(join(folder, 'pair-')), hasSecret)
    try {
      return await act(pair)
    } finally {
      await pair.stop()
    }
  }
})

function deathsOf(side: Side, points: readonly Point[]) {
  return points.flatMap((point) =>
    (['before', 'after'] as const).map((when) => ({ side, death: { point, when } }))
  )
}

/** West, which founded a mesh, and an agent with its token. */
class Pair {
  sponsor: MortalAgent
  newcomer: MortalAgent
  /** Whether the point of the death has come. */
  hasDied = false
  /** Whether the Secret had a key when the newcomer started again. */
  hadKey = false
  readonly #folder: string
  readonly #secrets: FakeSecrets | undefined
  readonly #ports: Readonly<Record<Side, number>>
  readonly #token: string
  readonly #invite: StatementId
  readonly #started: MortalAgent[] = []
  /** How many writes the sponsor had done when the newcomer began. */
  #before = 0

  private constructor(parts: {
    readonly folder: string
    readonly secrets: FakeSecrets | undefined
    readonly ports: Readonly<Record<Side, number>>
    readonly token: string
    readonly invite: StatementId
  }) {
    this.#folder = parts.folder
    this.#secrets = parts.secrets
    this.#ports = parts.ports
    this.#token = parts.token
    this.#invite = parts.invite
    ;[this.sponsor, this.newcomer] = [this.#agent('sponsor'), this.#agent('newcomer')]
  }

  /** The mesh is founded, and its founder does not run any more. */
  static async open(folder: string, hasSecret: boolean): Promise<Pair> {
    const ports = { sponsor: await freePort(), newcomer: 0 }
    const founder = new MortalAgent({
      folder: join(folder, 'sponsor'),
      secrets: undefined,
      port: ports.sponsor
    })
    await founder.start()
    await founder.enrolment.init({
      cluster: 'west',
      podCidrs: ['10.1.0.0/16'],
      serviceCidrs: ['10.101.0.0/16']
    })
    const { id, token } = tokenOf(founder)
    await founder.stop()
    return new Pair({ folder, ports, token, invite: id, secrets: hasSecret ? new FakeSecrets() : undefined })
  }

  /**
   * The newcomer joins while one side dies; that side starts again, and the newcomer joins again if it has not. Resolves
   * to whether it is in the mesh: it may be refused when its disk is lost. A death whose point does not come, because
   * it depends on timers, is no death.
   */
  async join(deaths: {
    readonly newcomer?: Death
    readonly sponsor?: Death
    readonly losesDisk?: boolean
  }): Promise<boolean> {
    this.sponsor = this.#agent('sponsor', deaths.sponsor)
    this.newcomer = this.#agent('newcomer', deaths.newcomer)
    await this.sponsor.start()
    this.#before = this.sponsor.points.length
    const first = this.#enter(this.newcomer).catch((error: unknown) => error)
    // The dead agent itself waits for an answer that never comes; the other one goes on.
    const mortal = deaths.newcomer === undefined ? this.sponsor : this.newcomer
    await Promise.race([mortal.died, first.then(() => this.#settled())])
    mortal.spare()
    this.hasDied = mortal.isDead
    if (this.sponsor.isDead) this.sponsor = await this.#again('sponsor', this.sponsor)
    if (this.newcomer.isDead) {
      await this.newcomer.stop()
      if (deaths.losesDisk === true) burn(join(this.#folder, 'newcomer'))
      this.hadKey = this.#secrets?.key !== undefined
      this.newcomer = this.#agent('newcomer')
    } else if ((await first) === undefined) return true
    return this.#retry(deaths.losesDisk === true)
  }

  /** Both sides have the same statements, among them one admission by the token, which is of the key on disk and in the Secret. */
  async agree(): Promise<void> {
    const key = keyId(crypto.publicKeyOf(bytes(this.newcomer.identity.clusterSeed ?? '')))
    await eventually(() => {
      const [ours, theirs] = [this.sponsor, this.newcomer].map(({ control }) =>
        [...control.members.set.ids()].toSorted()
      )
      assert.deepEqual(theirs, ours)
      assert.deepEqual([...this.keysAdmitted()], [key])
      for (const { control } of [this.sponsor, this.newcomer]) {
        assert.ok(control.members.standing().clusters.get(key)?.verdict.stands)
        assert.ok(control.members.isAdmitted(this.newcomer.control.origin))
      }
      assert.ok(this.newcomer.identity.clusterItem)
      assert.equal(this.newcomer.identity.pending, undefined)
      return true
    })
    const secrets = this.#secrets
    if (secrets === undefined) return
    await eventually(() => {
      assert.ok(secrets.key?.membership.kind === 'member')
      assert.equal(secrets.key.membership.clusterKey, key)
      return true
    })
  }

  /** The writes of the sponsor since the newcomer began. */
  pointsOfSponsor(): readonly Point[] {
    return this.sponsor.points.slice(this.#before)
  }

  /** The cluster keys that were admitted by the token, as the sponsor knows them. */
  keysAdmitted(): ReadonlySet<string> {
    const { admissions } = this.sponsor.control.members.set
    return new Set(
      [...admissions.values()]
        .filter(({ invite }) => invite.statement.id === this.#invite)
        .map(({ statement }) => statement.clusterKey)
    )
  }

  async stop(): Promise<void> {
    await Promise.all(this.#started.map((agent) => agent.stop()))
  }

  /** Waits until what follows a join is on disk, too. */
  async #settled(): Promise<void> {
    const isDone = (points: readonly Point[]) =>
      LAST.every((name) => points.some((point) => point.startsWith(name)))
    await eventually(() =>
      [this.sponsor, this.newcomer].every(
        ({ points, isDead, isDying }) => isDead || (isDone(points) && !isDying)
      )
    )
  }

  async #again(side: Side, dead: MortalAgent): Promise<MortalAgent> {
    await dead.stop()
    const next = this.#agent(side)
    await next.start()
    return next
  }

  /** Joins with the token again until that is done, or refused for good. */
  async #retry(mayBeRefused: boolean): Promise<boolean> {
    for (;;) {
      try {
        await this.#enter(this.newcomer)
        return true
      } catch (error) {
        if (mayBeRefused && codeOf(error) === 'MESH_USED') return false
        if (codeOf(error) !== 'UNREACHABLE') throw error
      }
    }
  }

  /** Starts an agent that does not run, and joins unless it is in the mesh already. */
  async #enter(agent: MortalAgent): Promise<void> {
    if (agent.current.session === undefined && !agent.isStarted && (await agent.start())) return
    await agent.join(this.#token)
  }

  #agent(side: Side, death?: Death): MortalAgent {
    const secrets = side === 'newcomer' ? this.#secrets : undefined
    const agent = new MortalAgent(
      { folder: join(this.#folder, side), secrets, port: this.#ports[side] },
      death
    )
    this.#started.push(agent)
    return agent
  }
}

/** An invite of the founder's seat for east, and its token, which names the founder on loopback. */
function tokenOf(founder: MortalAgent): { readonly id: StatementId; readonly token: string } {
  const { identity, control } = founder
  const roots = rootsOf(identity, crypto)
  const [seat] = identity.seats ?? []
  assert.ok(roots && seat)
  const nowSeconds = Math.floor(Date.now() / 1000)
  const { id, item, inviteSeed } = createInvite(
    { crypto, roots },
    {
      seatItem: bytes(seat.seatItem),
      adminSeed: bytes(seat.adminSeed),
      cluster: clusterName('east'),
      pods: [cidr('10.2.0.0/16')],
      services: [cidr('10.102.0.0/16')],
      namespaces: [],
      notBefore: nowSeconds - 60,
      notAfter: nowSeconds + 3600
    }
  )
  const bootstrap = control.transport.listenAddresses().map((address) => `${address}/p2p/${control.origin}`)
  return { id, token: encodeInviteToken(crypto, { roots, inviteItem: item, inviteSeed, bootstrap }) }
}
