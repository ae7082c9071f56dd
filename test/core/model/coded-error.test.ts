// Errors with a code, and the reasons why a server cannot listen.
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { AdvisedError, CodedError, codeOf } from '../../../src/core/model/coded-error.ts'
import { listenProblem } from '../../../src/core/model/listen-problem.ts'

describe('coded errors', () => {
  it('have a code, a fix and a cause', () => {
    const cause = new Error('inner')
    const error = new CodedError({ code: 'BROKEN', message: 'it is broken', fix: 'mend it', cause })
    assert.deepEqual(
      [error.code, error.message, error.fix, error.cause],
      ['BROKEN', 'it is broken', 'mend it', cause]
    )
    assert.equal('cause' in new CodedError({ code: 'BROKEN', message: 'it is broken' }), false)
  })

  it('have a fix in any case where a class is made for it', () => {
    const error = new AdvisedError('BROKEN', { message: 'it is broken', fix: 'mend it' })
    assert.deepEqual([error.code, error.message, error.fix], ['BROKEN', 'it is broken', 'mend it'])
    assert.equal('cause' in error, false)
    assert.ok(error instanceof CodedError)
  })

  it('and errors of Node are read by one function', () => {
    assert.equal(codeOf(new CodedError({ code: 'BROKEN', message: '' })), 'BROKEN')
    assert.equal(codeOf(Object.assign(new Error('gone'), { code: 'ENOENT' })), 'ENOENT')
    for (const value of [
      new Error('plain'),
      Object.assign(new Error('number'), { code: 7 }),
      { code: 'X' },
      null
    ])
      assert.equal(codeOf(value), undefined)
  })

  it('are the base of every error class with a code', () => {
    const files = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((file) =>
      file.endsWith('.ts')
    )
    for (const file of files) {
      const text = readFileSync(join('src', file), 'utf8')
      for (const [, body = ''] of text.matchAll(/class \w+ extends Error \{([^]*?)\n\}/g))
        assert.ok(
          file === 'core/model/coded-error.ts' || !/readonly code\b/.test(body),
          `${file}: derive it from CodedError`
        )
    }
  })
})

describe('listen problems', () => {
  it('are told by the code of the error', () => {
    const of = (code: string): string => listenProblem(Object.assign(new Error('bind'), { code })).code
    assert.equal(of('EADDRINUSE'), 'PORT_IN_USE')
    assert.equal(of('EACCES'), 'PORT_FORBIDDEN')
    assert.equal(of('EADDRNOTAVAIL'), 'ADDRESS_NOT_LOCAL')
    assert.equal(of('EMFILE'), 'LISTEN_FAILED')
  })

  it('are told by the text where libp2p hides the code', () => {
    assert.equal(
      listenProblem(new Error('listen EADDRINUSE: address already in use 0.0.0.0:1')).code,
      'PORT_IN_USE'
    )
    assert.deepEqual(listenProblem('other'), { code: 'LISTEN_FAILED', why: 'other' })
  })
})
