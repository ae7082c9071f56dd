// A host that cannot do all: the agent says what is missing and which step helps. What does not need it goes on.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import type { PlanAnswer } from '../../src/api/answers.ts'
import type { CommandResult } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { init, inStep, marks, raise, status } from './harness.ts'

describe('a host with limits', () => {
  const { site } = raise('host-limits', ['west'], { start: false })
  const west = () => site('west')

  describe('dataplane', () => {
    const cases: readonly { what: string; wrapper: readonly string[]; reason: RegExp }[] = [
      {
        what: 'no CAP_NET_ADMIN',
        wrapper: ['setpriv', '--bounding-set', '-net_admin', '--inh-caps', '-net_admin'],
        reason: /no permission to change the network of this host.*NET_ADMIN/
      },
      {
        what: 'no TUN',
        wrapper: hiding('mount -t tmpfs none /dev/net'),
        reason: /\/dev\/net\/tun.*(modprobe tun|device)/
      },
      {
        what: 'no wg',
        wrapper: hiding(
          `mount --bind /dev/null ${execFileSync('sh', ['-c', 'command -v wg']).toString().trim()}`
        ),
        reason: /wg.*wireguard-tools/
      }
    ]

    afterEach(() => west().stop('SIGTERM'))

    for (const { what, wrapper, reason } of cases) {
      it(`${what}: auto runs control plane and DNS, and plan shows the commands`, async () => {
        await west().startUnder(wrapper)
        if ((await status(west())).state === 'unjoined') await init(west())
        await eventually(async () => {
          const { dataplane, dns } = await status(west())
          assert.equal(dataplane.state, 'off')
          assert.match(dataplane.reason ?? '', reason)
          assert.equal(dns.state, 'on')
          return true
        })
        await eventually(async () => {
          const { addresses } = await west().pod(0).resolve('web.shop.svc.cluster.west')
          return addresses.includes('10.101.0.10')
        })
        const { steps } = await west().ask<PlanAnswer>('plan')
        const commands = steps.flatMap((step) => step.commands).join('\n')
        assert.match(commands, /wg(\s|-)/)
        assert.match(commands, /ip (-\S+ )?route/)
        assert.equal(await marks(west()), '')
      })

      it(`${what}: on refuses to start`, async () => {
        const { exitCode, stderr } = await ended([...wrapper, ...west().meshd('--dataplane', 'on')])
        assert.equal(exitCode, 1)
        assert.match(stderr.replaceAll('\n', ' '), reason)
        assert.match(stderr, /fix: /)
      })
    }
  })

  describe('another agent', () => {
    before(() => west().start())
    afterEach(() => inStep(west()))

    it('one network namespace has one agent; the second names the first and leaves it alone', async () => {
      const second = west().meshd('--socket', beside('second.sock'), '--state-dir', beside('second'))
      const { exitCode, stderr } = await ended(second)
      assert.equal(exitCode, 1)
      assert.match(
        stderr,
        new RegExp(`another agent \\(pid ${west().pid}\\) already runs in this network namespace`)
      )
      assert.match(stderr, /fix: stop the other agent/)
    })

    it('one socket has one agent', async () => {
      const { exitCode, stderr } = await ended(west().meshd('--state-dir', beside('second')))
      assert.equal(exitCode, 1)
      assert.match(stderr, /another meshd answers on .*meshd\.sock\n {2}fix: stop that meshd/)
    })

    it('one state folder has one agent', async () => {
      const { exitCode, stderr } = await ended(west().meshd('--socket', beside('second.sock')))
      assert.equal(exitCode, 1)
      assert.match(stderr, /another process uses .*state.*\n {2}fix: .*`state-dir`/)
    })
  })

  const beside = (name: string): string => join(west().folder, name)

  async function ended(argv: readonly string[]): Promise<CommandResult> {
    return west().gateway.exec(argv, { check: false })
  }
})

/** In a mount namespace of its own, after this command. */
function hiding(command: string): string[] {
  return ['unshare', '--mount', 'sh', '-c', `${command} && exec "$@"`, 'sh']
}
