import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createRun } from '../../../../src/io/host/tools/run.ts'
import { deadlineOf } from '../../../../src/io/host/tools/tools.ts'
import { eventually } from '../../../eventually.ts'

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

  it('has the words of wireguard-go, which it says on standard output, and no words of others from there', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'rhizome-run-'))
    const path = process.env['PATH']
    process.env['PATH'] = `${folder}:${path}`
    try {
      for (const tool of ['wireguard-go', 'wg'])
        writeFileSync(
          `${folder}/${tool}`,
          '#!/bin/sh\necho "CreateTUN failed; /dev/net/tun does not exist"\nexit 1\n',
          {
            mode: 0o755
          }
        )
      await assert.rejects(run('wireguard-go', ['wg0']), {
        code: 'TOOL_FAILED',
        message: /CreateTUN failed; \/dev\/net\/tun does not exist$/
      })
      // What the real one prints, on standard error.
      const box = ['┌────┐', '│   kernel has first class support for WireGuard. For  │', '└────┘', '']
      const words = 'ERROR: (wg0) 2026/01/02 03:04:05 UAPI listen error: read-only file system'
      writeFileSync(`${folder}/words`, [...box, words, ''].join('\n'))
      writeFileSync(`${folder}/wireguard-go`, `#!/bin/sh\ncat ${folder}/words >&2\nexit 1\n`)
      await assert.rejects(run('wireguard-go', ['wg0']), {
        code: 'TOOL_FAILED',
        message: `wireguard-go failed (exit code 1): ${words}`
      })
      // `wg show dump` prints private keys.
      await assert.rejects(run('wg', ['show', 'all', 'dump']), { code: 'TOOL_FAILED', stderr: '' })
    } finally {
      process.env['PATH'] = path
      rmSync(folder, { recursive: true })
    }
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

  it('ends at the deadline with the children of the tool, which may hold its output open', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'rhizome-run-'))
    const began = performance.now()
    const hanging = run('sh', ['-c', `(echo $$ > ${folder}/pid; exec sleep 600) & wait`], { deadlineMs: 300 })
    await assert.rejects(hanging, { code: 'TOOL_TIMEOUT', message: /^sh did not end within 0\.3 s/ })
    assert.ok(performance.now() - began < 60_000)
    const pid = readFileSync(`${folder}/pid`, 'utf8').trim()
    await eventually(
      () => !existsSync(`/proc/${pid}`) || /^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
    )
    rmSync(folder, { recursive: true })
  })

  it('asks a tool that hung a short question first, and goes on as soon as it answers', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'rhizome-run-'))
    const path = process.env['PATH']
    process.env['PATH'] = `${folder}:${path}`
    try {
      const script = (body: string) => writeFileSync(`${folder}/wg`, `#!/bin/sh\n${body}\n`, { mode: 0o755 })
      const calls = () => readFileSync(`${folder}/calls`, 'utf8').trim().split('\n')
      const log = `echo "$*" >> ${folder}/calls`
      script(`${log}; sleep 600`)
      const own = createRun()
      await assert.rejects(own('wg', ['set', 'x'], { deadlineMs: 300 }), { code: 'TOOL_TIMEOUT', tool: 'wg' })
      await assert.rejects(own('wg', ['set', 'x']), { code: 'TOOL_TIMEOUT', fix: /ps -C wg/ })
      assert.deepEqual(calls(), ['set x', 'show interfaces'])
      script(`${log}; echo fine`)
      assert.equal((await own('wg', ['set', 'x'])).stdout, 'fine\n')
      await own('wg', ['set', 'x'])
      assert.deepEqual(calls().slice(2), ['show interfaces', 'set x', 'set x'])
    } finally {
      process.env['PATH'] = path
      rmSync(folder, { recursive: true })
    }
  })

  it('survives a tool that does not read its input', async () => {
    await run('true', [], { stdin: 'x'.repeat(1 << 20) })
  })

  it('has a deadline of seconds for every tool, and more for a large input', () => {
    for (const tool of ['ip', 'nft', 'wg', 'conntrack', 'ipvsadm', 'modprobe', 'wireguard-go', 'cat'])
      assert.ok(deadlineOf(tool, '') <= 10_000, tool)
    assert.ok(deadlineOf('nft', 'x'.repeat(8 << 20)) > 30_000)
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
