// A port that another program holds: named with its setting. Only the control port stops the agent; the others are faults that
// status shows, and each part comes by itself once its port is free.
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import type { CommandResult } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { init, inStep, marks, raise, refused, status } from './harness.ts'

describe('a port in use', () => {
  const { site } = raise('ports', ['west'])
  const west = () => site('west')

  before(async () => {
    await init(west())
    await inStep(west())
  })

  afterEach(() => west().stop('SIGTERM'))

  it('listen: the agent refuses to start, and what flows goes on', async () => {
    await west().stop('SIGTERM')
    const before = await marks(west())
    await occupied({ tcp: 7946, at: '0.0.0.0' }, async () => {
      const { exitCode, stderr } = await ended(west().meshd())
      assert.equal(exitCode, 1)
      assert.match(stderr, /7946: another process uses the port[^]*fix: .*`listen`/)
    })
    assert.equal(await marks(west()), before)
  })

  it('dns-listen, http-listen, probe-port: shown by status, the tunnel is up, and each comes when its port is free', async () => {
    await occupied({ udp: 53, at: '10.1.0.1' }, async () =>
      occupied({ tcp: 9465, at: '127.0.0.1' }, async () =>
        occupied({ udp: 7947, at: '10.1.0.1' }, async () => {
          await west().start()
          await inStep(west())
          await eventually(async () => {
            const { warnings, dns } = await status(west())
            const text = warnings.join('\n')
            assert.match(text, /dns: .*10\.1\.0\.1.*53.*dns-listen/)
            assert.match(text, /127\.0\.0\.1:9465.*http-listen/)
            assert.match(text, /probe: .*7947.*probe-port/)
            assert.equal(dns.state, 'off')
            assert.match(dns.reason ?? '', /dns-listen/)
            return true
          })
        })
      )
    )
    await eventually(async () => (await status(west())).warnings.length === 0)
    await eventually(async () => {
      const { addresses } = await west().pod(0).resolve('web.shop.svc.cluster.west')
      assert.deepEqual(addresses, ['10.101.0.10'])
      return true
    })
  })

  it('wireguard-port: status names it, and the tunnel comes when the port is free', async () => {
    await ended(west().meshd('cleanup')) // the tunnel outlives the agent, and holds its port
    await occupied({ udp: 51820, at: '0.0.0.0' }, async () => {
      await west().start()
      await eventually(async () => {
        const { lastPass } = await status(west())
        assert.match(lastPass?.error ?? '', /another process uses the UDP port 51820.*wireguard-port/)
        return true
      })
    })
    await inStep(west())
    assert.equal((await status(west())).lastPass?.error, undefined)
  })

  it('init names the port that is in use, and nothing is kept', async () => {
    const fresh = ['--state-dir', join(west().folder, 'fresh')]
    await occupied({ tcp: 7946, at: '0.0.0.0' }, async () => {
      await west().start(...fresh)
      const text = await refused(
        west().ctl(
          'init',
          '--cluster',
          'west',
          '--pod-cidr',
          '10.1.0.0/16',
          '--service-cidr',
          '10.101.0.0/16'
        )
      )
      assert.match(text, /7946: another process uses the port[^]*fix: .*listen/)
      assert.equal((await status(west())).state, 'unjoined')
    })
    await init(west())
  })

  async function ended(argv: readonly string[]): Promise<CommandResult> {
    return west().gateway.exec(argv, { check: false })
  }

  /** Holds the port during `act`. */
  async function occupied(
    where: { readonly tcp?: number; readonly udp?: number; readonly at: string },
    act: () => Promise<void>
  ): Promise<void> {
    const holder: ChildProcess = west().gateway.spawn([
      process.execPath,
      '-e',
      where.tcp === undefined
        ? `require('dgram').createSocket('udp4').bind(${where.udp}, '${where.at}', () => console.log('held'))`
        : `require('net').createServer().listen(${where.tcp}, '${where.at}', () => console.log('held'))`
    ])
    assert.ok(holder.stdout)
    await once(holder.stdout, 'data')
    try {
      await act()
    } finally {
      const gone = once(holder, 'exit')
      holder.kill()
      await gone
    }
  }
})
