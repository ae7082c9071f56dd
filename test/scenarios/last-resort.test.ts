// A fault that nothing caught: logged whole, an exit code of its own, and the host as it was. And a log that cannot be written.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { eventually } from '../eventually.ts'
import { inStep, raise, reaches, status, undisturbed, unite } from './harness.ts'

describe('what nothing caught', function () {
  const { site } = raise('faults', ['west', 'east'])
  const west = () => site('west')
  const east = () => site('east')

  before(async () => {
    await unite(west(), east())
    await reaches(west(), east())
    await reaches(east(), west())
  })

  const faults: readonly (readonly [what: string, code: string, shown: RegExp])[] = [
    [
      'a throw in a timer',
      `setTimeout(() => { throw new TypeError('timer', { cause: new Error('the cause') }) })`,
      /TypeError.*timer.*the cause|the cause.*TypeError/
    ],
    ['a promise that nobody awaits', `Promise.reject(new Error('rejected'))`, /unhandledRejection.*rejected/],
    ['a throw of no error', `process.nextTick(() => { throw { odd: true } })`, /thrown.*odd/],
    [
      'an error event without a listener',
      `new (require('node:events'))().emit('error', new Error('event'))`,
      /Error.*event/
    ]
  ]
  for (const [what, code, shown] of faults) {
    it(`${what}: exit code 70, logged whole, traffic flows on, and a restart finds all in place`, async () => {
      await west().stop('SIGTERM')
      const inject = join(west().folder, 'inject.cjs')
      writeFileSync(inject, `process.on('SIGUSR2', () => { setImmediate(() => { ${code} }) })\n`)
      await undisturbed(west(), east(), async () => {
        await west().startUnder(['env', `NODE_OPTIONS=--require=${inject}`])
        await inStep(west())
        const before = west().tail(10_000).length
        const exited = west().exited()
        process.kill(west().pid ?? assert.fail('it does not run'), 'SIGUSR2')
        assert.equal(await exited, 70)
        const log = west().tail(10_000).slice(before)
        assert.match(log, /a fault of the program: the agent ends with exit code 70/)
        assert.match(log, shown)
        assert.match(log, /inject\.cjs|thrown/)
        await west().start()
        await inStep(west())
      })
    })
  }

  it('a log that takes nothing ends no agent', async () => {
    await west().stop('SIGTERM')
    const agent = west().gateway.spawn(
      ['sh', '-c', 'exec "$@" 2>/dev/full >/dev/full', 'sh', ...west().meshd('--log-level', 'debug')],
      { stdio: 'ignore' }
    )
    await eventually(async () => (await status(west())).state === 'running')
    await inStep(west())
    await reaches(west(), east())
    agent.kill('SIGTERM')
    assert.deepEqual(await once(agent, 'exit'), [0, null])
    await west().start()
  })
})
