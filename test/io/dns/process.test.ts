// The responder process: it answers on while its agent restarts, crashes or is replaced, and ends when it should.
import { setTimeout as delay } from 'node:timers/promises'
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { decode } from '@dnsquery/dns-packet'

import {
  createDnsProcess,
  endDnsProcess,
  type DnsProcess,
  type DnsProcessOptions
} from '../../../src/io/dns/process/client.ts'
import type { Channel } from '../../../src/io/dns/process/channel.ts'
import { ended, handedOver } from '../../../src/io/dns/process/spawn.ts'
import type { QueryCount } from '../../../src/io/dns/process/protocol.ts'
import type { MeshView } from '../../../src/core/view/view.ts'
import { cluster, meshOf, service, shopMesh } from '../../core/dns/fixtures.ts'
import { eventually } from '../../eventually.ts'
import { freePort } from '../../ports.ts'
import { ask, query } from './harness.ts'

const WEB = 'web.shop.svc.cluster.east'

describe('the DNS responder process', function () {
  let folder = ''
  let port = 0
  const started: DnsProcess[] = []

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'dns-'))
    port = await freePort()
  })
  afterEach(async () => {
    for (const process of started) process.detach()
    started.length = 0
    await endDnsProcess(control())
    rmSync(folder, { recursive: true, force: true })
  })

  const control = (): string => join(folder, 'meshd.dns')

  function agent(
    options: Partial<DnsProcessOptions> & {
      readonly view?: () => MeshView
      readonly outliveSeconds?: number
    } = {}
  ) {
    const { view = shopMesh, outliveSeconds = 30, ...others } = options
    const process = createDnsProcess({
      control: control(),
      version: 'v1',
      listen: [{ address: '127.0.0.1', port }],
      settings: { upstreams: [], allow: [], outliveSeconds },
      state: () => ({ view: view(), withdrawn: new Set(), serverAddresses: [], isWhole: true }),
      ...others
    })
    started.push(process)
    return process
  }

  const answers = async (name = WEB): Promise<readonly unknown[]> =>
    ((await ask(port, name, 'A')).answers ?? []).map(({ data }) => data)

  it('answers from the view, and from each one that follows', async () => {
    let view = shopMesh()
    const process = agent({ view: () => view })
    await process.start()
    await eventually(() => process.isUpToDate)
    await eventually(async () => (await answers()).includes('10.2.0.1'))
    view = meshOf(cluster('east', { services: [service('shop/web', ['10.2.0.77'])] }))
    process.update()
    await eventually(async () => (await answers()).join() === '10.2.0.77')
    assert.equal((await ask(port, 'db.shop.svc.cluster.east', 'A')).rcode, 'NXDOMAIN')
  })

  it('answers every question while one agent goes and the next one comes, and stays the same process', async () => {
    const first = agent()
    await first.start()
    await eventually(async () => (await answers()).length > 0)
    const { pid } = first
    const asking = askOn(port)
    for (let round = 0; round < 3; round++) {
      started.at(-1)?.detach()
      await eventually(async () => (await answers()).length > 0)
      const next = agent()
      await next.start()
      assert.equal(next.pid, pid)
      assert.deepEqual(next.listening, [{ address: '127.0.0.1', port }])
      await eventually(() => next.isUpToDate)
    }
    const { count, failures } = await asking.end()
    assert.deepEqual(failures, {})
    assert.ok(count > 10, `only ${count} questions`)
  })

  it('keeps what it knows while the next agent knows less, and takes what it knows better', async () => {
    const first = agent()
    await first.start()
    await eventually(() => first.isUpToDate)
    first.detach()
    let view = meshOf(cluster('east', { complete: false }))
    const next = agent({ view: () => view })
    await next.start()
    const asking = askOn(port)
    await eventually(
      async () => (await answers()).join() === '10.2.0.1,10.2.0.1' || (await answers()).length > 0
    )
    view = meshOf(cluster('east', { services: [service('shop/web', ['10.2.0.55'])] }), cluster('west', {}))
    next.update()
    await eventually(async () => (await answers()).join() === '10.2.0.55')
    assert.deepEqual((await asking.end()).failures, {})
  })

  it('of another version is replaced by one that has all names before it takes the port', async () => {
    const old = agent()
    await old.start()
    await eventually(() => old.isUpToDate)
    old.detach()
    // Each question is asked once: the port is closed at no moment.
    const asking = askOn(port, { askers: 8 })
    const next = agent({ version: 'v2' })
    await next.start()
    assert.notEqual(next.pid, old.pid)
    const { count, failures } = await asking.end()
    assert.deepEqual(failures, {})
    assert.ok(count > 10, `only ${count} questions`)
    assert.ok((await answers()).length > 0)
  })

  it('is told to end once the next one listens, however long that takes, and also where that one never says so', async () => {
    const said: string[] = []
    let close: () => void = () => undefined
    const channel = {
      welcome: { pid: 0x7fff_ffff }, // of no process
      send: ({ kind }: { readonly kind: string }) => {
        said.push(kind)
        close()
      },
      onClosed: (listener: () => void) => (close = listener),
      close: () => undefined
    } as unknown as Channel
    let listening: () => void = () => undefined
    const ends = handedOver(channel, new Promise<void>((resolve) => (listening = resolve)))
    await delay(500)
    assert.deepEqual(said, [])
    listening()
    await ends
    assert.deepEqual(said, ['stop'])
    await handedOver(channel, Promise.reject(new Error('it cannot bind')))
    await handedOver(channel, new Promise(() => undefined))
    assert.deepEqual(said, ['stop', 'stop', 'stop'])
  })

  it('that has ended is not killed some seconds later, when another process may have its id', async () => {
    const other = spawn(globalThis.process.execPath, ['-e', 'setTimeout(() => {}, 60_000)'])
    try {
      const channel = {
        welcome: { pid: other.pid },
        send: () => undefined,
        onClosed: (listener: () => void) => listener(),
        close: () => undefined
      } as unknown as Channel
      await ended(channel)
      await delay(4000)
      assert.ok(isAlive(other.pid ?? 0))
    } finally {
      other.kill()
    }
  })

  it('listens where the next agent wants it', async () => {
    const old = agent()
    await old.start()
    old.detach()
    const other = await freePort()
    const next = agent({ listen: [{ address: '127.0.0.1', port: other }] })
    await next.start()
    assert.deepEqual(next.listening, [{ address: '127.0.0.1', port: other }])
    await assert.rejects(ask(port, WEB, 'A'))
    port = other
    await eventually(async () => (await answers()).length > 0)
  })

  it('that was killed is missed at once, and started again', async () => {
    let gone = 0
    const process = agent({ onGone: () => gone++ })
    await process.start()
    const { pid } = process
    kill(pid)
    await eventually(() => gone === 1)
    assert.deepEqual(process.listening, [])
    await process.start()
    assert.notEqual(process.pid, pid)
    await eventually(async () => (await answers()).length > 0)
  })

  it('that hangs is ended', async function () {
    let gone = 0
    const warnings: string[] = []
    const process = agent({ onGone: () => gone++, onWarning: (text) => warnings.push(text) })
    await process.start()
    globalThis.process.kill(process.pid ?? 0, 'SIGSTOP')
    await eventually(() => gone === 1, 40_000)
    assert.match(warnings.join(), /sent no message/)
  })

  it('ends by itself some time after its agent, and at once where that time is zero', async () => {
    for (const outliveSeconds of [0, 1]) {
      const process = agent({ outliveSeconds })
      await process.start()
      const { pid = 0 } = process
      process.detach()
      await eventually(() => !isAlive(pid))
    }
  })

  it('ends when it is told to, and leaves nothing', async () => {
    const process = agent()
    await process.start()
    const { pid = 0 } = process
    await process.end()
    await eventually(() => !isAlive(pid))
    assert.ok(!existsSync(control()))
    const second = agent()
    await second.start()
    second.detach()
    await endDnsProcess(control())
    await eventually(() => !isAlive(second.pid ?? pid))
    assert.ok(!existsSync(control()))
  })

  it('whose socket was deleted is found by the next agent', async () => {
    const first = agent()
    await first.start()
    const { pid = 0 } = first
    first.detach()
    rmSync(control())
    const next = agent()
    await next.start()
    assert.notEqual(next.pid, pid)
    await eventually(() => !isAlive(pid))
    await eventually(async () => (await answers()).length > 0)
  })

  it('says why it cannot listen, goes on to try in the same process, and comes when the port is free', async () => {
    const blocker = createSocket('udp4').bind(port, '127.0.0.1')
    await once(blocker, 'listening')
    const process = agent()
    await assert.rejects(process.start(), { code: 'PORT_IN_USE' })
    const { pid } = process
    await assert.rejects(process.start(), { code: 'PORT_IN_USE' })
    blocker.close()
    await eventually(() =>
      process.start().then(
        () => true,
        () => false
      )
    )
    assert.equal(process.pid, pid)
    await eventually(async () => (await answers()).length > 0)
  })

  it('says why it cannot start', async () => {
    const process = agent({ control: join(folder, 'nosuch', 'meshd.dns') })
    await assert.rejects(process.start(), { code: 'PROCESS_FAILED', message: /DNS responder does not run/ })
  })

  it('has no privileges, no environment and no open standard streams of its agent', async function () {
    if (globalThis.process.getuid?.() !== 0) this.skip()
    globalThis.process.env['SECRET_OF_THE_AGENT'] = 'x'
    const process = agent()
    await process.start()
    const status = readFileSync(`/proc/${process.pid}/status`, 'utf8')
    assert.match(status, /^Uid:\t61237\t61237\t61237\t61237$/m)
    assert.match(status, /^CapEff:\t0+$/m)
    assert.match(status, /^Groups:\t61237 *$/m)
    assert.ok(!readFileSync(`/proc/${process.pid}/environ`, 'utf8').includes('SECRET'))
    assert.equal(statSync(control()).mode & 0o777, 0o600)
  })

  it('tells its counts, and those of the time without an agent to the next one', async () => {
    const counted: QueryCount[] = []
    const onCounts = (counts: readonly QueryCount[]) => counted.push(...counts)
    const number = () =>
      counted
        .filter(({ zone, rcode }) => zone === 'cluster.east' && rcode === 'NOERROR')
        .flatMap(({ seconds }) => seconds)
        .reduce((sum, [, count]) => sum + count, 0)
    const first = agent({ onCounts })
    await first.start()
    await eventually(() => first.isUpToDate)
    await answers()
    await eventually(() => number() >= 1)
    const before = number()
    first.detach()
    // Counts that the responder sends before it has seen the end of the connection are lost.
    for (let asked = 0; asked < 10; asked++) {
      await answers()
      await delay(100)
    }
    const next = agent({ onCounts })
    await next.start()
    await eventually(() => number() > before)
  })
})

function kill(pid: number | undefined): void {
  assert.ok(pid !== undefined)
  process.kill(pid, 'SIGKILL')
}

function isAlive(pid: number): boolean {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return false
  }
}

/** So many askers at once, each with one question after the other over a connected socket of its own, until `end()`. */
function askOn(port: number, { askers = 1 } = {}) {
  const failures: Record<string, number> = {}
  let count = 0
  const over = new AbortController()
  const asker = async (): Promise<void> => {
    while (!over.signal.aborted) {
      count++
      const failure = await failureOf(port)
      if (failure !== undefined) failures[failure] = (failures[failure] ?? 0) + 1
    }
  }
  const loop = Promise.all(Array.from({ length: askers }, asker))
  return {
    async end() {
      over.abort()
      await loop
      return { count, failures }
    }
  }
}

async function failureOf(port: number): Promise<string | undefined> {
  const socket = createSocket('udp4')
  try {
    socket.connect(port, '127.0.0.1')
    await once(socket, 'connect')
    const reply = once(socket, 'message', { signal: AbortSignal.timeout(2000) })
    socket.send(query(WEB, 'A'))
    const [bytes]: unknown[] = await reply
    const { rcode = '', answers = [] } = decode(bytes as Uint8Array)
    return rcode === 'NOERROR' && answers.length > 0 ? undefined : rcode
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error)
  } finally {
    socket.close()
  }
}
