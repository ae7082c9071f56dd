// `make test` that is ended at any time: nothing of it stays on the machine.
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { eventually } from '../eventually.ts'
import { KUBE_LAB_BUILD_MS } from './support/kube-api.ts'
import { requireLab } from './support/require.ts'

const CONTAINED = new URL('../contained', import.meta.url).pathname
const STUBBORN = new URL('support/stubborn.ts', import.meta.url).pathname

describe('a contained test run', () => {
  before(function () {
    requireLab(this)
  })

  it('that gets SIGTERM leaves no etcd, no API server, no wireguard-go, no daemon and no file', async function () {
    this.timeout(KUBE_LAB_BUILD_MS)
    const run = await started([CONTAINED, process.execPath, STUBBORN, 'kubernetes'])
    const names = run.processes().map(nameOf)
    for (const name of ['etcd', 'kube-apiserver', 'wireguard-go', 'sleep'])
      assert.ok(names.includes(name), `${name} is not in ${names.join()}`)
    run.child.kill('SIGTERM')
    assert.deepEqual(await once(run.child, 'exit'), [143, null])
    // At once: it ends when the last of them has ended.
    assert.deepEqual(run.processes().map(nameOf), [])
    assert.deepEqual(run.files(), [])
  })

  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGHUP', 129]
  ] as const) {
    it(`that gets ${signal} leaves nothing`, async function () {
      const run = await started([CONTAINED, process.execPath, STUBBORN])
      run.child.kill(signal)
      assert.deepEqual(await once(run.child, 'exit'), [code, null])
      assert.deepEqual(run.processes().map(nameOf), [])
      assert.deepEqual(run.files(), [])
    })
  }

  it('that gets SIGKILL leaves no process, and the next run removes its files', async function () {
    const run = await started([CONTAINED, process.execPath, STUBBORN])
    run.child.kill('SIGKILL')
    await once(run.child, 'exit')
    await eventually(() => run.processes().length === 0, 20_000)
    assert.equal(run.files().length, 1)
    await once(spawn(CONTAINED, ['true']), 'exit')
    assert.deepEqual(run.files(), [])
  })

  it('whose parent gets SIGKILL, as make may, leaves nothing', async function () {
    const run = await started(['sh', '-c', '"$@"; true', 'sh', CONTAINED, process.execPath, STUBBORN])
    run.child.kill('SIGKILL')
    await eventually(() => run.processes().length === 0, 20_000)
    assert.deepEqual(run.files(), [])
  })

  it('passes on the exit code, ends what still runs after it, and hides its network namespaces from the machine', async () => {
    const script = `setsid sleep 1000 & ip netns add contained-${process.pid} && ls /run/netns && exit 7`
    const child = spawn(CONTAINED, ['sh', '-c', script])
    let text = ''
    child.stdout.on('data', (chunk) => (text += String(chunk)))
    const [code] = (await once(child, 'close')) as [number]
    assert.equal(code, 7)
    assert.equal(text.trim(), `contained-${process.pid}`)
    // Other labs of this machine come and go meanwhile.
    assert.equal(existsSync(`/run/netns/contained-${process.pid}`), false)
  })
})

interface Started {
  readonly child: ChildProcess
  /** Ids of the living processes that the run started, found by a mark in their environment. */
  processes(): readonly number[]
  /** Temporary folders of the run. */
  files(): readonly string[]
}

async function started(argv: readonly [string, ...string[]]): Promise<Started> {
  const mark = `RHIZOME_MARK=${randomBytes(8).toString('hex')}`
  const [file, ...args] = argv
  const child = spawn(file, args, {
    env: { ...process.env, [mark.split('=')[0] ?? '']: mark.split('=')[1] },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
  assert.equal(line, 'ready')
  // "rhizome-run.<pid>.<random>"
  const pids = new Set(processesWith(mark))
  const own = new Set(folders().filter((name) => pids.has(Number(name.split('.')[1]))))
  return {
    child,
    processes: () => processesWith(mark),
    files: () => folders().filter((name) => own.has(name))
  }
}

function folders(): string[] {
  return readdirSync(tmpdir()).filter((name) => name.startsWith('rhizome-run.'))
}

function processesWith(mark: string): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => {
      try {
        // A zombie has an empty environment.
        return pid > 0 && readFileSync(join('/proc', String(pid), 'environ'), 'latin1').includes(mark)
      } catch {
        return false // it has gone
      }
    })
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim()
  } catch {
    return '' // it has gone
  }
}
