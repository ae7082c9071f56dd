import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { EXIT, EXIT_MEANINGS } from '../../../src/app/agent/exit-codes.ts'
import { whole } from '../../../src/app/agent/last-resort.ts'

describe('the last resort', () => {
  it('tells an error whole: stack, code and causes, and no other property', () => {
    const root = Object.assign(new Error('disk'), { code: 'EIO', token: 'rzm2_secret' })
    const text = JSON.stringify(
      whole(new AggregateError([root], 'several', { cause: new TypeError('why', { cause: root }) }))
    )
    for (const part of ['several', 'why', 'disk', 'EIO', 'TypeError', 'last-resort.test.ts'])
      assert.match(text, new RegExp(part))
    assert.doesNotMatch(text, /rzm2_secret/)
  })

  it('takes what is no error, and a ring of causes', () => {
    assert.match(JSON.stringify(whole({ deep: { deeper: 1 } })), /thrown/)
    assert.match(JSON.stringify(whole(undefined)), /undefined/)
    const ring = new Error('ring')
    ring.cause = ring
    assert.ok(JSON.stringify(whole(ring)).length < 100_000)
  })

  it('each exit code has a meaning, and the unit restarts all but that of a wrong setting', () => {
    assert.deepEqual(
      EXIT_MEANINGS.map(([code]) => code),
      Object.values(EXIT)
    )
    const unit = readFileSync('deploy/systemd/meshd.service', 'utf8')
    assert.match(unit, /^Restart=always$/m)
    assert.match(unit, new RegExp(`^RestartPreventExitStatus=${EXIT.usage}$`, 'm'))
    assert.match(unit, /^StartLimitIntervalSec=0$/m)
    assert.match(unit, /^KillMode=process$/m) // a userspace tunnel is a child that must stay
    assert.match(readFileSync('deploy/manifests/kubernetes.yaml', 'utf8'), /kind: DaemonSet/) // its pods are restarted always
    assert.doesNotMatch(readFileSync('deploy/chart/rhizome/templates/agent.yaml', 'utf8'), /restartPolicy/)
  })
})
