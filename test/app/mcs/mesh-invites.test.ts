// MeshInvites before an API server in memory, in virtual time: what each object gets, what is refused, and what a hostile one
// cannot do.
import assert from 'node:assert/strict'
import pino from 'pino'
import { HOUR_MAX, OPEN_MAX, RETRY_MS, TRIES_PER_PASS } from '../../../src/app/mcs/invite-maker.ts'
import { MeshInvites } from '../../../src/app/mcs/mesh-invites.ts'
import { AppError } from '../../../src/app/observe/errors.ts'
import type { ObjectInvite } from '../../../src/app/enrolment/invitations.ts'
import type { KubeApi, KubeCall } from '../../../src/core/kube/kube-api.ts'
import type { Fields } from '../../../src/core/model/field-check.ts'
import { KubeError } from '../../../src/io/kube/errors.ts'

const NAMESPACE = 'rhizome-system'
const TOKEN = 'rzm2_this-is-the-secret-token'
const START_MS = Date.parse('2026-01-01T00:00:00Z')

/** The parts of the API server that the agent calls. It refuses calls that the chart gives no right to. */
class FakeServer implements KubeApi {
  readonly objects = new Map<string, Record<string, unknown>>()
  readonly secrets = new Map<string, Fields>()
  readonly events: Fields[] = []
  readonly calls: KubeCall[] = []
  /** Fails or loses a call. */
  trouble: (call: KubeCall) => Error | undefined = () => undefined
  #made = 0

  async request(call: KubeCall): Promise<unknown> {
    this.calls.push(call)
    const { method = 'GET', path, body } = call
    const trouble = this.trouble(call)
    if (trouble !== undefined) throw trouble
    if (method === 'GET' && path.endsWith('/meshinvites'))
      return { items: structuredClone([...this.objects.values()]) }
    if (method === 'PATCH' && path.endsWith('/status')) return this.#status(body as Fields)
    if (method === 'POST' && path.endsWith('/events')) return this.events.push(body as Fields)
    if (method === 'POST' && path === `/api/v1/namespaces/${NAMESPACE}/secrets`) return this.#secret(call)
    return assert.fail(`the agent has no right to ${method} ${path}`)
  }

  add(name: string, spec: unknown): void {
    const metadata = { name, uid: `uid-${++this.#made}`, generation: 1, creationTimestamp: at(this.#made) }
    this.objects.set(name, { metadata, spec })
  }

  #status({ metadata, status }: Fields): void {
    const { name, uid } = metadata as { name: string; uid: string }
    const held = this.objects.get(name)
    if ((held?.['metadata'] as Fields | undefined)?.['uid'] !== uid) throw answer(409)
    this.objects.set(name, { ...held, status })
  }

  #secret({ body, query }: KubeCall): void {
    const { name } = (body as { metadata: { name: string } }).metadata
    if (this.secrets.has(name)) throw answer(409)
    if (query?.['dryRun'] !== 'All') this.secrets.set(name, body as Fields)
  }
}

/** The invites of one gateway: as many as are asked for, of names that are free. */
class FakeInvitations {
  readonly kept = new Map<string, ObjectInvite>()
  readonly asked: Fields[] = []
  readonly back: string[] = []
  refusal: Error | undefined
  #made = 0
  readonly #nowMs: () => number

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  madeForObjects(): readonly ObjectInvite[] {
    return [...this.kept.values()]
  }

  async invite(request: { ttlSeconds: number }, { meshInvite = '' }: { meshInvite?: string } = {}) {
    if (this.refusal !== undefined) throw this.refusal
    this.asked.push({ ...request })
    const id = String(++this.#made).padStart(64, '0')
    const expiresMs = this.#nowMs() + request.ttlSeconds * 1000
    for (const one of this.kept.values()) if (one.object === meshInvite) this.kept.delete(one.id)
    this.kept.set(id, { id, object: meshInvite, expiresMs, podCidrs: ['10.2.0.0/16'], serviceCidrs: [] })
    return {
      token: TOKEN,
      expiresMs,
      podPrefixes: ['10.2.0.0/16'],
      servicePrefixes: [],
      identity: { invites: [{ id }] }
    }
  }

  async takeBack(id: string): Promise<void> {
    this.back.push(id)
    this.kept.delete(id)
  }
}

describe('MeshInvites', () => {
  let server: FakeServer
  let clock: number
  let isSpeaker: boolean
  let used: Set<string>
  let takenBack: Set<string>
  let invitations: FakeInvitations
  let invites: MeshInvites
  let logged: string

  beforeEach(() => {
    ;[server, clock, isSpeaker, used, takenBack, logged] = [
      new FakeServer(),
      0,
      true,
      new Set(),
      new Set(),
      ''
    ]
    invitations = new FakeInvitations(() => START_MS + clock)
    invites = gateway(invitations)
  })

  function gateway(of: FakeInvitations): MeshInvites {
    return new MeshInvites({
      api: server,
      namespace: NAMESPACE,
      invitations: of as never,
      facts: () => ({ used, takenBack }),
      isSpeaker: () => isSpeaker,
      node: 'gw-1',
      log: pino({ level: 'debug' }, { write: (line: string) => (logged += line) }),
      nowMs: () => START_MS + clock,
      monotonicMs: () => clock
    })
  }

  const look = (): Promise<number> => invites.look(new AbortController().signal)

  /** "Ready=True/TokenReady Redeemed=False/Waiting", or '' without a status. */
  function shown(name: string): string {
    const { conditions = [] } = (server.objects.get(name)?.['status'] ?? {}) as {
      conditions?: Record<string, string>[]
    }
    return conditions.map((each) => `${each['type']}=${each['status']}/${each['reason']}`).join(' ')
  }

  function message(name: string): string {
    const { conditions = [] } = (server.objects.get(name)?.['status'] ?? {}) as {
      conditions?: Record<string, string>[]
    }
    return String(conditions[0]?.['message'])
  }

  const reasons = (): readonly unknown[] => server.events.map((each) => each['reason'])
  const posts = (): readonly KubeCall[] => server.calls.filter(({ method }) => method === 'POST')

  it('writes a token into a Secret that belongs to the object, once, and says so', async () => {
    server.add('west', {
      cluster: 'west',
      podCIDRs: ['10.2.0.0/16'],
      expiresIn: '2h',
      secretName: 'west-token'
    })
    await look()
    assert.equal(shown('west'), 'Ready=True/TokenReady Redeemed=False/Waiting')
    const secret = server.secrets.get('west-token') as unknown as {
      stringData: { token: string }
      type: string
      metadata: { ownerReferences: unknown }
    }
    assert.equal(secret.stringData.token, TOKEN)
    assert.equal(secret.type, 'rhizome.io/join-token')
    assert.deepEqual(secret.metadata.ownerReferences, [
      { apiVersion: 'rhizome.io/v1alpha1', kind: 'MeshInvite', name: 'west', uid: 'uid-1', controller: true }
    ])
    assert.deepEqual(invitations.asked, [
      {
        cluster: 'west',
        podCidrs: ['10.2.0.0/16'],
        serviceCidrs: [],
        realPodCidrs: [],
        realServiceCidrs: [],
        namespaces: [],
        ttlSeconds: 7200,
        bootstrap: [],
        replace: undefined,
        force: false
      }
    ])
    const calls = server.calls.length
    clock += 60_000
    await look()
    assert.equal(server.calls.length, calls + 1, 'a pass without a change is one list')
    assert.deepEqual(reasons(), ['TokenReady'])
    assert.deepEqual(server.events[0]?.['metadata'], { generateName: 'west-', namespace: NAMESPACE })
  })

  it('has the token nowhere but in the Secret', async () => {
    server.add('west', { cluster: 'west' })
    server.add('east', { cluster: 'east', secretName: 'taken' })
    server.secrets.set('taken', {})
    server.trouble = ({ path }) => (path.endsWith('/events') ? answer(403) : undefined)
    await look()
    used.add('1'.padStart(64, '0'))
    await look()
    const carriers = server.calls.filter(({ body }) => JSON.stringify(body ?? '').includes(TOKEN))
    assert.deepEqual(
      carriers.map(({ method, path, query }) => [method, path, query?.['dryRun']]),
      [['POST', `/api/v1/namespaces/${NAMESPACE}/secrets`, undefined]]
    )
    assert.ok(!JSON.stringify([...server.objects.values()]).includes(TOKEN))
    assert.ok(logged.includes('Event') && !logged.includes(TOKEN))
  })

  it('shows that a cluster has joined, that a token has expired, and that an invite was taken back', async () => {
    for (const name of ['one', 'two', 'three']) server.add(name, { cluster: name, expiresIn: '1h' })
    await look()
    used.add('1'.padStart(64, '0'))
    takenBack.add('2'.padStart(64, '0'))
    await look()
    clock += 3_600_000
    await look()
    assert.equal(shown('one'), 'Ready=True/Joined Redeemed=True/Joined')
    assert.equal(shown('two'), 'Ready=False/Cancelled Redeemed=False/Cancelled')
    assert.equal(shown('three'), 'Ready=False/Expired Redeemed=False/Expired')
    assert.deepEqual(reasons().slice(3), ['Joined', 'Cancelled', 'Expired'])
    assert.equal(invitations.asked.length, 3, 'none of them is invited again')
  })

  it('never changes a Secret that exists, makes no invite for it, and goes on when it is gone', async () => {
    const foreign = { data: { password: 'c2VjcmV0' } }
    server.secrets.set('database', foreign)
    server.add('west', { cluster: 'west', secretName: 'database' })
    await look()
    assert.equal(shown('west'), 'Ready=False/SecretExists Redeemed=False/NoInvite')
    assert.equal(server.secrets.get('database'), foreign)
    assert.deepEqual([invitations.asked, invitations.back], [[], []])
    server.secrets.delete('database')
    clock += RETRY_MS
    await look()
    assert.equal(shown('west'), 'Ready=True/TokenReady Redeemed=False/Waiting')
  })

  it('takes the invite back where a Secret of others comes between the try and the write', async () => {
    const foreign = {}
    server.trouble = ({ method, query }) => {
      if (method === 'POST' && query?.['dryRun'] === undefined) server.secrets.set('west', foreign)
      return undefined
    }
    server.add('west', { cluster: 'west' })
    await look()
    assert.equal(shown('west'), 'Ready=False/SecretExists Redeemed=False/NoInvite')
    assert.equal(server.secrets.get('west'), foreign)
    assert.deepEqual(invitations.back, ['1'.padStart(64, '0')])
  })

  for (const what of ['the write of the Secret', 'the write of the status'] as const)
    it(`knows its own Secret where the answer to ${what} was lost`, async () => {
      server.add('west', { cluster: 'west' })
      const lost = new KubeError({ code: 'NETWORK', message: 'connection reset' })
      server.trouble = (call) => {
        const isStatus = call.path.endsWith('/status')
        if (what === 'the write of the status') return isStatus ? lost : undefined
        if (call.method !== 'POST' || call.query?.['dryRun'] !== undefined || isStatus) return undefined
        server.secrets.set('west', call.body as Fields)
        return lost
      }
      await assert.rejects(look())
      server.trouble = () => undefined
      // The process may have ended, too: another one has the same disk.
      invites = gateway(invitations)
      await look()
      assert.equal(shown('west'), 'Ready=True/TokenReady Redeemed=False/Waiting')
      assert.equal(invitations.asked.length, 1)
    })

  it('takes the invite of a deleted object back, by the gateway that made it, whoever the speaker is', async () => {
    server.add('west', { cluster: 'west' })
    await look()
    const other = new FakeInvitations(() => clock)
    isSpeaker = false
    server.objects.delete('west')
    await gateway(other).look(new AbortController().signal)
    assert.deepEqual(other.back, [])
    await look()
    assert.deepEqual(invitations.back, ['1'.padStart(64, '0')])
  })

  it('takes it back where an object of the same name was made anew, and answers the new one', async () => {
    server.add('west', { cluster: 'west' })
    await look()
    server.secrets.clear()
    server.add('west', { cluster: 'west' })
    await look()
    assert.deepEqual(invitations.back, ['1'.padStart(64, '0')])
    assert.equal(shown('west'), 'Ready=True/TokenReady Redeemed=False/Waiting')
  })

  for (const status of [403, 404, 500])
    it(`takes nothing back where the list is answered with ${status}`, async () => {
      server.add('west', { cluster: 'west' })
      await look()
      server.trouble = () => answer(status)
      await look().catch(() => undefined)
      assert.deepEqual(invitations.back, [])
      assert.equal(invites.faults.length, 0)
    })

  it('does nothing while another gateway is the speaker, and gives a second gateway no second invite', async () => {
    isSpeaker = false
    server.add('west', { cluster: 'west' })
    await look()
    assert.deepEqual([server.calls, shown('west')], [[], ''])
    isSpeaker = true
    await look()
    invites = gateway(new FakeInvitations(() => clock))
    await look()
    assert.equal(invitations.asked.length, 1)
    assert.equal(server.secrets.size, 1)
  })

  it('says with the words of `meshctl invite` why it makes none, once, and tries again', async () => {
    invitations.refusal = new AppError('NO_SEAT', 'this agent holds no seat', 'ask an administrator')
    server.add('west', { cluster: 'west' })
    await look()
    await look()
    clock += RETRY_MS
    await look()
    assert.equal(shown('west'), 'Ready=False/NoSeat Redeemed=False/NoInvite')
    assert.equal(message('west'), 'this agent holds no seat; ask an administrator')
    assert.deepEqual(reasons(), ['NoSeat'])
    assert.equal(posts().filter(({ path }) => path.endsWith('/secrets')).length, 2, 'two tries of the Secret')
    invitations.refusal = undefined
    clock += RETRY_MS
    await look()
    assert.equal(shown('west'), 'Ready=True/TokenReady Redeemed=False/Waiting')
  })

  for (const [what, spec, wanted] of [
    ['no spec', undefined, /spec.cluster is missing/],
    ['a list for a spec', [1, 2], /spec.cluster is missing/],
    ['a name that does not parse', { cluster: '../west' }, /spec.cluster .* not a DNS label/],
    ['a huge name', { cluster: 'a'.repeat(1e6) }, /spec.cluster is longer than 63/],
    ['a thousand prefixes', { cluster: 'w', podCIDRs: Array(1000).fill('10.0.0.0/8') }, /has 1000 items/],
    ['a huge prefix', { cluster: 'w', podCIDRs: ['1'.repeat(1e6)] }, /longer than 100/],
    ['a number for a prefix', { cluster: 'w', serviceCIDRs: [7] }, /spec.serviceCIDRs\[0\] is/],
    ['no time', { cluster: 'w', expiresIn: 'for ever' }, /spec.expiresIn is "for ever"/],
    ['a time of years', { cluster: 'w', expiresIn: '367d' }, /at most 366d/],
    ['a path for a Secret', { cluster: 'w', secretName: '../../secrets/x' }, /not a name of a Secret/],
    [
      'the Secret of the key',
      { cluster: 'w', secretName: 'rhizome-cluster-key' },
      /of this installation itself/
    ],
    ['the Secret of the token', { cluster: 'w', secretName: 'rhizome-token' }, /of this installation itself/]
  ] as const)
    it(`refuses an object with ${what}, in its condition, and sends nothing else`, async () => {
      server.add('bad', spec)
      await look()
      assert.equal(shown('bad'), 'Ready=False/InvalidSpec Redeemed=False/NoInvite')
      assert.match(message('bad'), wanted)
      assert.ok(message('bad').length < 1000)
      assert.deepEqual(
        posts().map(({ path }) => path.split('/').at(-1)),
        ['events']
      )
    })

  it('refuses a second object for a cluster with an open invite, so that neither takes the other one back', async () => {
    server.add('a', { cluster: 'west' })
    server.add('b', { cluster: 'west' })
    await look()
    assert.match(shown('a'), /Ready=True/)
    assert.match(shown('b'), /Ready=False\/AlreadyInvited/)
    assert.match(message('b'), /the MeshInvite a has an open invite of cluster west/)
    used.add('1'.padStart(64, '0'))
    invitations.refusal = new AppError('NAME_TAKEN', 'the name is taken', 'choose another')
    await look()
    assert.match(shown('b'), /Ready=False\/NameTaken/)
  })

  it('makes a bounded number of invites, also of hundreds of objects, and none is made twice', async () => {
    for (let index = 0; index < 300; index++) server.add(`c${index}`, { cluster: `c${index}` })
    await look()
    assert.equal(invitations.asked.length, TRIES_PER_PASS)
    for (let pass = 0; pass < 60; pass++) await look()
    assert.equal(invitations.asked.length, OPEN_MAX)
    assert.match(shown('c299'), /Ready=False\/TooManyInvites/)
    assert.match(shown('c0'), /Ready=True/)
    const calls = server.calls.length
    await look()
    assert.equal(server.calls.length - calls, 1, 'a pass without a change is one list')
  })

  it('makes a bounded number in an hour where objects come and go', async () => {
    for (let pass = 0; pass < HOUR_MAX + 20; pass++) {
      server.add('west', { cluster: 'west' })
      server.secrets.clear()
      await look()
    }
    assert.equal(invitations.asked.length, HOUR_MAX)
    assert.match(shown('west'), /Ready=False\/TooManyInvites/)
    clock += 3_600_000
    await look()
    assert.match(shown('west'), /Ready=True/)
  })

  it('answers the others where one is refused each time', async () => {
    for (let index = 0; index < 3 * TRIES_PER_PASS; index++) server.add(`bad${index}`, { cluster: 'taken' })
    server.add('good', { cluster: 'good' })
    const invite = invitations.invite.bind(invitations)
    invitations.invite = async (request, options) => {
      if ((request as Fields)['cluster'] === 'taken') throw new AppError('NAME_TAKEN', 'taken', 'choose')
      return invite(request, options)
    }
    for (let pass = 0; pass < 4; pass++) await look()
    assert.match(shown('good'), /Ready=True/)
  })

  it('gives an object that was made anew during the pass not the status of the old one', async () => {
    server.add('west', { cluster: 'west' })
    server.trouble = ({ path }) => {
      if (path.endsWith('/status')) {
        server.trouble = () => undefined
        server.add('west', { cluster: 'west', secretName: 'again' })
      }
      return undefined
    }
    await look()
    assert.equal(shown('west'), '')
    await look()
    assert.deepEqual(invitations.back, ['1'.padStart(64, '0')])
  })

  it('says in objects with an open invite that the cluster has left the mesh', async () => {
    server.add('one', { cluster: 'one' })
    server.add('two', { cluster: 'two' })
    await look()
    used.add('1'.padStart(64, '0'))
    await look()
    await invites.undo()
    assert.equal(shown('one'), 'Ready=True/Joined Redeemed=True/Joined')
    assert.equal(shown('two'), 'Ready=False/LeftMesh Redeemed=False/LeftMesh')
    await look()
    assert.equal(shown('two'), 'Ready=False/LeftMesh Redeemed=False/LeftMesh')
  })
})

function at(second: number): string {
  return new Date(START_MS + second * 1000).toISOString().replace('.000Z', 'Z')
}

function answer(status: number): KubeError {
  const code = status === 409 ? 'CONFLICT' : status === 403 ? 'FORBIDDEN' : 'SERVER_FAILED'
  return new KubeError({ code, message: `answer ${status}`, status })
}
