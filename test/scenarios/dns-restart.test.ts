// Names while the agent restarts, is killed, or is upgraded; and that nothing of the responder is left when it should be gone.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import type { StatusAnswer } from '../../src/api/answers.ts'
import { eventually } from '../eventually.ts'
import { inStep, look, raise, unite } from './harness.ts'

const NAMES = ['web.shop.svc.cluster.west', 'web.shop.svc.cluster.east', 'web.shop.svc.cluster.all']
const OUTLIVE = ['--dns-outlive-seconds', '30']

describe('names during a restart of the agent', () => {
  const { site } = raise('dnsr', ['west', 'east'], { start: false })
  const west = () => site('west')

  before(async () => {
    await Promise.all([west().start(...OUTLIVE), site('east').start()])
    await unite(west(), site('east'))
    await Promise.all([inStep(west()), inStep(site('east'))])
    await eventually(async () => (await Promise.all(NAMES.map(resolves))).every(Boolean))
  })

  const resolves = async (name: string): Promise<boolean> => {
    const { addresses } = await west().pod(0).resolve(name)
    return addresses.length > 0
  }

  /** Asks all names again and again while `act` goes on: each must be answered, at the first attempt of a resolver. */
  async function unfailing(act: () => Promise<void>): Promise<void> {
    const over = new AbortController()
    let count = 0
    const failures: string[] = []
    const loop = (async () => {
      while (!over.signal.aborted) {
        for (const name of NAMES) {
          const { addresses, error, ms } = await west().pod(0).resolve(name)
          count++
          // Two seconds is the resolver's timeout: then it asked twice.
          if (addresses.length === 0 || ms > 2000) failures.push(`${name}: ${error} after ${ms} ms`)
        }
      }
    })()
    try {
      await act()
    } finally {
      over.abort()
      await loop
    }
    assert.deepEqual(failures, [], `of ${count}`)
    assert.ok(count > 20, `only ${count}`)
  }

  const responders = async (): Promise<readonly string[]> => {
    const { stdout } = await west().gateway.exec(['sh', '-c', 'ls /proc | grep -E "^[0-9]+$"'])
    return stdout
      .split('\n')
      .filter((pid) => commandLine(pid).includes(west().socket.replace('.sock', '.dns')))
  }

  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    it(`no name is lost after ${signal}`, async () => {
      const [before] = await responders()
      await unfailing(async () => {
        await west().stop(signal)
        await Promise.all(NAMES.map(resolves))
        await west().start(...OUTLIVE)
        await inStep(west())
      })
      assert.deepEqual(await responders(), [before])
    })
  }

  it('what changes after the restart is answered', async () => {
    const { dns } = await look<StatusAnswer>(west(), 'status')
    assert.equal(dns.state, 'on')
    await site('east').stop('SIGTERM')
    await site('east').start()
    await eventually(() => resolves('web.shop.svc.cluster.east'))
  })

  it('a responder that was killed is back in a moment, and the agent says nothing of it any more', async () => {
    const [pid = ''] = await responders()
    process.kill(Number(pid), 'SIGKILL')
    await eventually(async () => (await responders()).length === 1 && (await responders())[0] !== pid)
    await eventually(async () => (await Promise.all(NAMES.map(resolves))).every(Boolean))
    const { warnings } = await look<StatusAnswer>(west(), 'status')
    assert.deepEqual(
      warnings.filter((text) => /dns|DNS/.test(text)),
      []
    )
  })

  it('meshd cleanup and meshctl leave end it', async () => {
    await west().stop('SIGTERM')
    assert.equal((await responders()).length, 1)
    const { exitCode, stderr } = await west().gateway.exec(west().meshd('cleanup'), { check: false })
    assert.equal(exitCode, 0, stderr)
    await eventually(async () => (await responders()).length === 0)
    await west().start(...OUTLIVE)
    await inStep(west())
    assert.equal((await responders()).length, 1)
    const left = await west().ctl('leave', '--yes', '--force')
    assert.equal(left.exitCode, 0, left.stderr)
    await eventually(async () => (await responders()).length === 0)
  })
})

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
  } catch {
    return ''
  }
}
