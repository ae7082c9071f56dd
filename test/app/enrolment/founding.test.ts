// The setting init: which gateway founds the mesh of a cluster, when none does, and what a crash in between leaves.
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { Founding } from '../../../src/app/enrolment/founding.ts'
import { ToldToJoin } from '../../../src/app/enrolment/told-to-join.ts'
import { AppError } from '../../../src/app/observe/errors.ts'
import { Health } from '../../../src/app/observe/health.ts'
import { CurrentSession } from '../../../src/app/session/current-session.ts'
import { codeOf } from '../../../src/core/model/coded-error.ts'
import type { KubeApi } from '../../../src/core/kube/kube-api.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { KubeError } from '../../../src/io/kube/errors.ts'
import { FakeSecrets } from './fake-secrets.ts'
import { MortalAgent, type Death } from './mortal-agent.ts'

const SETTINGS = {
  init: 'east',
  'init-pod-cidrs': ['10.1.0.0/16'],
  'init-service-cidrs': ['10.101.0.0/16'],
  role: 'auto'
} as never
// Below the ports that Linux gives to outgoing connections, and apart from those of other tests.
let port = 21_700 + (process.pid % 200) * 8

describe('a gateway with the setting init', function () {
  let folder: string
  let secrets: FakeSecrets
  let hasLease: boolean
  let agents: MortalAgent[]

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rhizome-founding-'))
    ;[secrets, hasLease, agents] = [new FakeSecrets(), false, []]
  })

  afterEach(async () => {
    await Promise.all(agents.map((agent) => agent.stop()))
    await rm(folder, { recursive: true, force: true })
  })

  /** The API server of the cluster: the Lease of the speaker, and the Secret of the key. */
  const api: KubeApi = {
    request: async (call) => {
      if (!call.path.endsWith('/leases/rhizome-speaker')) return secrets.request(call)
      if (!hasLease) throw new KubeError({ code: 'NOT_IN_CLUSTER', message: 'none', status: 404 })
      return { metadata: {} }
    }
  }

  async function gateway(name: string, death?: Death): Promise<MortalAgent> {
    const agent = new MortalAgent({ folder: join(folder, name), secrets: api, port: port++ }, death)
    agents.push(agent)
    await agent.start()
    return agent
  }

  function founding({ enrolment, sharedKey }: Pick<MortalAgent, 'enrolment' | 'sharedKey'>): Founding {
    const kubernetes = { api, namespace: 'mesh', multicluster: undefined }
    return new Founding({ settings: SETTINGS, source: { kubernetes }, sharedKey, enrolment })
  }

  /** What told-to-join.ts does in one attempt without a token. */
  async function attempt(agent: MortalAgent): Promise<void> {
    if ((await agent.sharedKey?.find()) === undefined) return founding(agent).found()
    await agent.enrolment.join({ token: undefined })
  }

  it('founds one mesh where two of them start together', async () => {
    const both = [await gateway('one'), await gateway('two')]
    const results = await Promise.allSettled(both.map(attempt))
    const codes = results.map((result) => (result.status === 'rejected' ? codeOf(result.reason) : 'founded'))
    assert.deepEqual(new Set(codes), new Set(['CLUSTER_KEY_TAKEN', 'founded']))
    for (const [index, agent] of both.entries()) if (codes[index] !== 'founded') await attempt(agent)
    await oneMesh(both)
  })

  for (const point of ['Secret member #0', 'identity member #0'] as const)
    for (const when of ['before', 'after'] as const)
      it(`founds one mesh where it is killed ${when} the write "${point}", and another one founds meanwhile`, async () => {
        const first = await gateway('one', { point, when })
        await assert.rejects(attempt(first))
        await first.died
        await first.stop()
        const second = await gateway('two')
        await attempt(second)
        const again = new MortalAgent({ folder: join(folder, 'one'), secrets: api, port: port++ })
        agents = [second, again]
        if (!(await again.start())) await attempt(again)
        await oneMesh(agents)
      })

  it('founds nothing where the Lease shows that the cluster was in a mesh, and says what to do', async () => {
    hasLease = true
    const agent = await gateway('one')
    await assert.rejects(founding(agent).found(), (error: Error) => {
      assert.equal(codeOf(error), 'FOUNDED_BEFORE')
      assert.match(String((error as AppError).fix), /kubectl -n mesh delete lease rhizome-speaker/)
      return true
    })
    assert.deepEqual([secrets.writes, agent.identity.mesh], [0, undefined])
  })

  it('founds nothing where another gateway has founded since it read the Secret', async () => {
    const agent = await gateway('one')
    await attempt(agent)
    hasLease = true
    await assert.rejects(founding(await gateway('two')).found(), { code: 'CLUSTER_KEY_TAKEN' })
  })

  it('founds nothing without a Kubernetes API, and is not asked as a node', async () => {
    const enrolment = { init: () => assert.fail('no init was asked for') }
    const without = new Founding({
      settings: SETTINGS,
      source: { kubernetes: undefined },
      sharedKey: undefined,
      enrolment
    })
    await assert.rejects(without.found(), { code: 'BAD_SETTING' })
    const settings = { ...(SETTINGS as object), role: 'node' } as never
    const node = new Founding({
      settings,
      source: { kubernetes: undefined },
      sharedKey: undefined,
      enrolment
    })
    assert.deepEqual([without.isAsked, node.isAsked], [true, false])
  })

  const log = pino({ enabled: false })
  for (const [what, hasToken, error, asked, faults] of [
    ['joins with a token that is given', true, undefined, ['join'], []],
    ['founds without a token and a key', false, undefined, ['found'], []],
    [
      'waits for the key where another gateway was first',
      false,
      new AppError('CLUSTER_KEY_TAKEN', 'taken', 'wait'),
      ['found'],
      []
    ],
    [
      'says why it could not found',
      false,
      new AppError('BAD_ARGUMENT', 'pod-cidr: not known', 'name it'),
      ['found'],
      [['init', 'name it']]
    ]
  ] as const)
    it(what, async () => {
      const file = join(folder, 'token')
      if (hasToken) await writeFile(file, 'rzm2_AAAA')
      const health = new Health({ log, now: Date.now })
      const said: string[] = []
      const { promise, resolve } = Promise.withResolvers<void>()
      const say = (word: string) => async (): Promise<never> => {
        said.push(word)
        resolve()
        if (error !== undefined) throw error
        return undefined as never
      }
      const told = new ToldToJoin({
        crypto: createCrypto(),
        file,
        sharedKey: { find: async () => undefined } as never,
        enrolment: { join: say('join') },
        founding: { isAsked: true, found: say('found') },
        current: new CurrentSession(),
        log,
        health
      })
      assert.equal(told.isTold, true)
      told.start()
      await promise
      await new Promise((done) => setImmediate(done))
      await told.stop()
      assert.deepEqual(said, asked)
      assert.deepEqual(
        health.faults().map(({ subject, fix }) => [subject, fix]),
        faults
      )
    })

  async function oneMesh(both: readonly MortalAgent[]): Promise<void> {
    const keys = both.map(({ identity }) => [identity.mesh, identity.clusterSeed, identity.rootSeeds?.length])
    assert.deepEqual(keys[0], keys[1])
    assert.equal(keys[0]?.[2], 1, 'each gateway has the root key until it is exported, as after meshctl init')
  }
})
