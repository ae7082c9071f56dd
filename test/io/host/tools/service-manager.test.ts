import assert from 'node:assert/strict'
import { isLastingStop } from '../../../../src/app/agent/lasting-stop.ts'
import type { Run } from '../../../../src/io/host/ports.ts'
import { jobOfUnit } from '../../../../src/io/host/tools/service-manager.ts'

const UNIT = '0::/system.slice/meshd.service\n'
const says =
  (stdout: string): Run =>
  async () => ({ stdout, stderr: '', exitCode: 0 })
const jobWith = (run: Run, cgroup = UNIT, env: Record<string, string> = { INVOCATION_ID: 'x' }) =>
  jobOfUnit(run, { env, cgroup: () => cgroup })

describe('the job of the unit of this process', () => {
  it('is that of its own unit in the list of systemd', async () => {
    const others = ' 12 ssh.service     restart waiting\n'
    assert.equal(await jobWith(says(`${others} 77 meshd.service restart running\n`)), 'restart')
    assert.equal(await jobWith(says(`${others}77 meshd.service try-restart running`)), 'restart')
    assert.equal(await jobWith(says(`${others} 77 meshd.service stop running\n`)), 'stop')
    assert.equal(await jobWith(says(others)), 'none')
    assert.equal(await jobWith(says('')), 'none')
  })

  it('is not known without systemd, outside of a service, or when systemd does not answer', async () => {
    const stop = says('77 meshd.service stop running')
    assert.equal(await jobWith(stop, UNIT, {}), undefined)
    assert.equal(await jobWith(stop, '0::/user.slice/session-1.scope\n'), undefined)
    assert.equal(await jobWith(() => Promise.reject(new Error('no bus'))), undefined)
  })

  it('decides whether a stop is for long, unless the setting does', async () => {
    const lasts = (setting: 'auto' | 'always' | 'never', job: 'stop' | 'restart' | 'none' | undefined) =>
      isLastingStop({ 'hand-over-on-stop': setting }, async () => job)
    assert.deepEqual(await Promise.all([lasts('auto', 'stop'), lasts('auto', undefined)]), [true, true])
    assert.deepEqual(await Promise.all([lasts('auto', 'restart'), lasts('auto', 'none')]), [false, false])
    assert.deepEqual(await Promise.all([lasts('always', 'restart'), lasts('never', 'stop')]), [true, false])
  })
})
