// One change of one key, as it is numbered by its origin and carried between agents.
import type { Value } from '../model/values.ts'
import { KEY_CHARACTERS_MAX, RECORD_BYTES_MAX } from '../wire/limits.ts'
import type { OperationMessage } from '../wire/messages.ts'

/** `seq` is unique within an epoch of the origin and grows with every operation. */
export interface Operation {
  readonly key: string
  readonly seq: number
  /** An encoded Value; undefined is a tombstone. */
  readonly value: Uint8Array | undefined
}

/** What an agent wants to publish of itself. */
export interface ValueChange {
  readonly key: string
  /** undefined deletes. */
  readonly value: Value | undefined
}

/** A live record: what a reader sees. */
export interface StoredRecord extends Operation {
  /** May be unpacked for each reader: keep it, or read it once. */
  readonly value: Uint8Array
  /** The length of `value`, where asking for the value itself would unpack it. */
  readonly valueBytes?: number
  /** The same object as long as the value is the same. */
  readonly identity?: object
}

/** Printable ASCII, so that the order of keys is the order of their bytes in every language. */
export function isKey(key: string): boolean {
  return key.length <= KEY_CHARACTERS_MAX && /^[!-~]+$/.test(key)
}

/** Undefined for a malformed one. The value is copied, because it would keep its whole frame alive. */
export function toOperation(message: OperationMessage): Operation | undefined {
  const { key, seq, value, tombstone } = message
  if (!isKey(key) || seq < 1 || value.length > RECORD_BYTES_MAX) return undefined
  if (tombstone !== (value.length === 0)) return undefined
  return { key, seq, value: tombstone ? undefined : new Uint8Array(value) }
}

/** The last operation of each key, in their order: a key that changed while the parts of a delta came is in two of them. */
export function newestOf(operations: readonly Operation[]): readonly Operation[] {
  const newest = new Map(operations.map((operation) => [operation.key, operation]))
  return newest.size === operations.length
    ? operations
    : operations.filter((operation) => newest.get(operation.key) === operation)
}

/** About the bytes an operation takes on the wire and in memory. */
export function operationBytes(operation: Operation): number {
  return operation.key.length + (operation.value?.length ?? 0) + OPERATION_OVERHEAD_BYTES
}

// Tags, lengths and the sequence number.
const OPERATION_OVERHEAD_BYTES = 16
