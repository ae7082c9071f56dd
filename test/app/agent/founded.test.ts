import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { DnsAnswer, ErrorAnswer, StatusAnswer } from '../../../src/api/answers.ts'
import type { InviteAnswer, JoinedAnswer, LeftAnswer } from '../../../src/api/membership-answers.ts'
import { startAgent, type Agent } from '../../../src/app/agent/agent.ts'
import { Session } from '../../../src/app/session/session.ts'
import { bytes } from '../../../src/app/identity/encoding.ts'
import { createIdentity, initMesh, redeemToken } from '../../../src/app/identity/identity.ts'
import { invite } from '../../../src/app/identity/invite.ts'
import { createLog } from '../../../src/app/observe/log.ts'
import { resolveSettings } from '../../../src/app/settings/settings.ts'
import { originOf } from '../../../src/core/model/identity.ts'
import type { ClusterName } from '../../../src/core/model/values.ts'
import { createCrypto } from '../../../src/io/crypto/crypto.ts'
import { openStore } from '../../../src/io/store/store.ts'
import { eventually } from '../../eventually.ts'
import { freePort } from '../../ports.ts'
import { seatsOf } from '../identity/seats.ts'

describe('an agent without a folder of manifests', () => {
  let top: string
  let daemon: Agent
  let start: (flags?: Readonly<Record<string, string>>) => Promise<Agent>

  beforeEach(async () => {
    top = await mkdtemp(join(tmpdir(), 'rhizome-founded-'))
    start = (flags = {}) =>
      startAgent(
        resolveSettings({
          flags: {
            'state-dir': join(top, 'state'),
            socket: join(top, 'admin.sock'),
            manifests: join(top, 'manifests'),
            source: 'folder',
            dataplane: 'off',
            listen: '/ip4/127.0.0.1/tcp/0',
            announce: '/ip4/192.0.2.1/tcp/7946',
            'probe-port': '0',
            'dns-listen': 'off',
            'http-listen': 'off',
            'feed-listen': 'off',
            ...flags
          },
          env: {},
          file: undefined
        }),
        createLog({ 'log-level': 'error', 'log-format': 'text' })
      )
    daemon = await start()
  })

  afterEach(async () => {
    await daemon.stop()
    await rm(top, { recursive: true, force: true })
  })

  async function ask<T>(path: string, body?: object): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const call = request(
      { socketPath: join(top, 'admin.sock'), path, method: body === undefined ? 'GET' : 'POST' },
      (response) => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => (text += chunk))
        response.on('end', () => resolve(JSON.parse(text) as T))
      }
    )
    call.on('error', reject)
    if (body !== undefined) call.setHeader('content-type', 'application/json')
    call.end(body === undefined ? undefined : JSON.stringify(body))
    return promise
  }

  for (const [what, put] of [
    ['is not there', undefined],
    ['is a folder', ''],
    ['is empty', ' \n'],
    ['is cut short', 'rzm1_AAAA']
  ] as const)
    it(`shows that it cannot join with a token file that ${what}, until it is in a mesh`, async () => {
      await daemon.stop()
      const file = join(top, 'token')
      if (put === '') await mkdir(file)
      else if (put !== undefined) await writeFile(file, put)
      daemon = await start({ 'token-file': file })
      const shown = async () =>
        (await ask<StatusAnswer>('/v1/status')).health?.faults.find(({ code }) => code === 'NOT_JOINED')
      await eventually(async () => (await shown()) !== undefined)
      const fault = await shown()
      assert.equal(fault?.severity, 'error')
      assert.equal(fault?.subject, file)
      assert.notEqual(fault?.fix, '')
      await found('west')
      assert.equal(await shown(), undefined)
    })

  const found = (cluster: string) =>
    ask<JoinedAnswer>('/v1/init', { cluster, podCidrs: ['10.1.0.0/16'], serviceCidrs: ['10.101.0.0/16'] })

  it('announces its prefixes, says what is missing, and publishes the services once they are there', async () => {
    await found('west')
    const status = await ask<StatusAnswer>('/v1/status')
    assert.equal(status.state, 'running')
    assert.match(status.warnings.join('\n'), /the folder of manifests does not exist/)
    assert.equal(status.source.services, 0)
    await eventually(async () => {
      const { podCidrs } = await ask<StatusAnswer>('/v1/status')
      return podCidrs.join() === '10.1.0.0/16'
    })
    // No services is an answer, too.
    await eventually(async () => {
      const { zones } = await ask<DnsAnswer>('/v1/dns')
      return zones?.every(({ state }) => state === 'serving') === true
    })
    await mkdir(join(top, 'manifests'))
    await writeFile(
      join(top, 'manifests', 'a.yaml'),
      'apiVersion: v1\nkind: Service\nmetadata: { name: web, namespace: shop }\nspec: { clusterIP: 10.101.0.1, ports: [{ port: 80 }] }\n'
    )
    await eventually(async () => {
      const { services } = await ask<{ services: readonly { name: string }[] }>('/v1/services')
      return services.some(({ name }) => name === 'web')
    })
    const after = await ask<StatusAnswer>('/v1/status')
    assert.doesNotMatch(after.warnings.join('\n'), /folder of manifests/)
  })

  it('is ready in no mesh, and after a restart in a mesh not before its session has started', async () => {
    const port = await freePort()
    const flags = { 'http-listen': `127.0.0.1:${port}` }
    const ready = async (): Promise<string> => {
      const response = await fetch(`http://127.0.0.1:${port}/readyz`)
      return `${response.status} ${(await response.text()).trim()}`
    }
    await daemon.stop()
    daemon = await start(flags)
    assert.equal(await ready(), '200 ok')
    await found('west')
    await eventually(async () => (await ready()) === '200 ok')
    await daemon.stop()
    // A session with a host name in its settings waits up to 3 s for the DNS, one with a large replica reads the disk.
    const { promise: asked, resolve: goOn } = Promise.withResolvers<void>()
    const own = Object.getOwnPropertyDescriptor(Session.prototype, 'start') ?? assert.fail()
    const starts = own.value as (this: Session) => Promise<void>
    Session.prototype.start = async function () {
      await asked
      return starts.call(this)
    }
    const starting = start(flags)
    try {
      await eventually(async () =>
        (await ready()).startsWith('503 the session of this agent has not started')
      )
    } finally {
      Object.defineProperty(Session.prototype, 'start', own)
      goOn()
      daemon = await starting
    }
    await eventually(async () => (await ready()) === '200 ok')
  })

  // The methods are called with `this` below.
  // oxlint-disable-next-line typescript/unbound-method
  const { stop: stops, withdraw: withdraws } = Session.prototype
  it('keeps a token that no member answered, until a leave discards it or an init replaces it', async () => {
    const crypto = createCrypto()
    const root = initMesh(
      { cluster: 'west', podCidrs: ['10.1.0.0/16'], serviceCidrs: ['10.101.0.0/16'] },
      { crypto, identity: createIdentity(crypto), nowMs: Date.now(), hostNetworks: [] }
    )
    const peerId = originOf(crypto.publicKeyOf(bytes(root.nodeSeed)))
    const { token } = invite(
      {
        cluster: 'east',
        podCidrs: ['10.2.0.0/16'],
        serviceCidrs: ['10.102.0.0/16'],
        ttlSeconds: 3600,
        bootstrap: []
      },
      {
        crypto,
        identity: root,
        nowMs: Date.now(),
        view: { self: 'west' as ClusterName, clusters: new Map() },
        bootstrap: new Map([['west' as ClusterName, [`/ip4/192.0.2.9/tcp/7946/p2p/${peerId}`]]]),
        seats: seatsOf(root, crypto),
        hostNetworks: []
      }
    )
    const pend = async () => {
      await daemon.stop()
      const store = await openStore({ folder: join(top, 'state'), now: Date.now })
      const identity = store.identity() ?? assert.fail()
      await store.saveIdentity(redeemToken(token, { crypto, identity, nowMs: Date.now() }))
      await store.close()
      daemon = await start()
    }
    await pend()
    const { state, pendingToken } = await ask<StatusAnswer>('/v1/status')
    assert.deepEqual([state, pendingToken], ['unjoined', { cluster: 'east' }])
    const { cluster, pending } = await ask<LeftAnswer>('/v1/leave', {})
    assert.deepEqual({ cluster, pending }, { cluster: 'east', pending: true })
    assert.equal((await ask<ErrorAnswer>('/v1/leave', {})).error.code, 'NOT_JOINED')
    await pend()
    await found('north')
    await daemon.stop()
    daemon = await start()
    assert.equal((await ask<StatusAnswer>('/v1/status')).cluster, 'north')
  })

  const identityFile = () => join(top, 'state', 'identity.json')
  const breaks: readonly [what: string, act: () => Promise<void>, mend: () => Promise<void>][] = [
    [
      'its records cannot be withdrawn',
      async () => {
        Session.prototype.withdraw = () => Promise.reject(new Error('no disk'))
      },
      async () => {
        Session.prototype.withdraw = withdraws
      }
    ],
    [
      'its session does not stop',
      async () => {
        Session.prototype.stop = async function (options) {
          await stops.call(this, options)
          throw new Error('a socket hangs')
        }
      },
      async () => {
        Session.prototype.stop = stops
      }
    ],
    [
      'its identity cannot be deleted',
      async () => {
        await rename(identityFile(), join(top, 'kept'))
        await mkdir(join(identityFile(), 'full'), { recursive: true })
      },
      () => rm(identityFile(), { recursive: true })
    ]
  ]
  for (const [what, act, mend] of breaks)
    it(`leaves at the second attempt when ${what} at the first, and joins nothing in between`, async () => {
      type Answer = {
        readonly cluster?: string
        readonly error?: { readonly code: string; readonly fix?: string }
      }
      const leave = () => ask<Answer>('/v1/leave', {})
      await found('west')
      await act()
      const failed = await leave()
      assert.equal(failed.error?.code, 'LEAVE_UNFINISHED', JSON.stringify(failed))
      assert.match(failed.error.fix ?? '', /run `meshctl leave` again/)
      const codes = async () =>
        (await ask<StatusAnswer>('/v1/status')).health?.faults.map(({ code }) => code) ?? []
      assert.ok((await codes()).includes('LEAVE_UNFINISHED'))
      const other = await ask<Answer>('/v1/init', { cluster: 'east', podCidrs: [], serviceCidrs: [] })
      assert.match(other.error?.code ?? '', /^(LEAVE_UNFINISHED|ALREADY_JOINED)$/)
      await mend()
      assert.equal((await leave()).cluster, 'west')
      assert.ok(!(await codes()).includes('LEAVE_UNFINISHED'))
      assert.equal((await leave()).error?.code, 'NOT_JOINED')
      await found('north')
      assert.equal((await ask<StatusAnswer>('/v1/status')).cluster, 'north')
    })

  it('is warned at init and at invite of a name that is a top-level domain, and of no other', async () => {
    const founded = await found('eu')
    assert.match(founded.warnings?.join() ?? '', /cluster\.eu is also a name of the public DNS/)
    const invited = (cluster: string) =>
      ask<InviteAnswer>('/v1/invite', {
        cluster,
        podCidrs: [],
        serviceCidrs: [],
        ttlSeconds: 60,
        bootstrap: []
      })
    assert.match((await invited('dev')).warnings?.join() ?? '', /www\.cluster\.dev no longer resolve/)
    assert.equal((await invited('east')).warnings, undefined)
  })
})
