import assert from 'node:assert/strict'
import { createRun } from '../../../src/io/host/run.ts'

describe('running a tool', () => {
  const run = createRun()

  it('passes text through stdin, and through a file that only the tool can open', async () => {
    assert.equal((await run('cat', [], { stdin: 'a\nb' })).stdout, 'a\nb')
    assert.equal((await run('cat', ['/dev/stdin'], { stdin: 'secret', stdinAsFile: true })).stdout, 'secret')
    const file = await run('stat', ['-L', '-c', '%a %h', '/dev/stdin'], {
      stdin: 'secret',
      stdinAsFile: true
    })
    assert.equal(file.stdout, '600 0\n')
  })

  it('names the package of a tool that is missing', async () => {
    await assert.rejects(run('no-such-tool', []), { code: 'TOOL_MISSING', tool: 'no-such-tool' })
    const missing = createRun({ prefix: ['/no/such/folder/ip'] })
    await assert.rejects(missing('wg', []), { code: 'TOOL_MISSING', fix: /apt-get install wireguard-tools/ })
  })

  it('says what the tool said, and takes the exit codes that are an answer', async () => {
    await assert.rejects(run('ls', ['/no/such/file']), { code: 'TOOL_FAILED', stderr: /No such file/ })
    assert.equal((await run('false', [], { okCodes: [1] })).exitCode, 1)
  })

  it('knows a lack of permission', async () => {
    const denied = run('sh', ['-c', 'echo RTNETLINK answers: Operation not permitted >&2; exit 2'])
    await assert.rejects(denied, { code: 'NOT_ROOT', fix: /NET_ADMIN/ })
  })

  it('gives up at the deadline and with the signal', async () => {
    await assert.rejects(run('sleep', ['30'], { deadlineMs: 50 }), { code: 'TOOL_TIMEOUT' })
    await assert.rejects(run('sleep', ['30'], { signal: AbortSignal.timeout(50) }), { code: 'ABORTED' })
    await assert.rejects(run('true', [], { signal: AbortSignal.abort() }), { code: 'ABORTED' })
  })

  it('survives a tool that does not read its input', async () => {
    await run('true', [], { stdin: 'x'.repeat(1 << 20) })
  })

  it('gives tools none of our environment but PATH', async () => {
    process.env['RHIZOME_TEST_TOKEN'] = 'secret'
    try {
      assert.doesNotMatch((await run('env', [])).stdout, /secret/)
    } finally {
      delete process.env['RHIZOME_TEST_TOKEN']
    }
  })
})
