// A delta as frames: parts small enough for other frames to pass between them.
import { toSignedHead, type Head } from './head.ts'
import { operationBytes, type Operation } from './record.ts'
import { encodeFrame } from '../wire/messages.ts'

/** At least one frame. `chain` travels in the first. */
export function deltaFrames(delta: {
  readonly head: Head
  readonly fromSeq: number
  readonly operations: readonly Operation[]
  readonly chain?: Uint8Array | undefined
  readonly partBytes: number
}): readonly Uint8Array[] {
  const { head, fromSeq, operations, chain, partBytes } = delta
  const parts = splitBySize(operations, partBytes)
  return parts.map((operations, part) =>
    encodeFrame({
      delta: {
        head: toSignedHead(head),
        fromSeq,
        operations: operations.map(encodeOperation),
        part,
        more: part < parts.length - 1,
        ...(chain && part === 0 ? { chain } : {})
      }
    })
  )
}

export function encodeOperation({ key, seq, value }: Operation) {
  return value ? { key, seq, value } : { key, seq, tombstone: true }
}

function splitBySize(operations: readonly Operation[], partBytes: number): readonly (readonly Operation[])[] {
  let part: Operation[] = []
  let bytes = 0
  const parts = [part]
  for (const operation of operations) {
    const size = operationBytes(operation)
    if (bytes + size > partBytes && part.length > 0) {
      part = []
      bytes = 0
      parts.push(part)
    }
    part.push(operation)
    bytes += size
  }
  return parts
}
