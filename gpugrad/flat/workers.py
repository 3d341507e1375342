"""Threads for native calls: they wait in native code, so that handing work over takes a microsecond or two.

`gg_share(table, 0, n)` runs n lists of calls, the first on the calling thread. Each worker has a slot: a state, the list, a mutex
and a condition. What no worker has taken when the caller is done with its own list, the caller takes back: a worker that
sleeps too long costs nothing but its help. One caller at a time has the workers; another runs its lists alone.

    pool   busy, number of workers, then the address of each worker's slot
    table  pool, set, get, then a list (calls, count) for each thread. set and get are those of BLAS's number of threads, or 0:
           while the lists run, each product is done by the thread that has it
"""
from __future__ import annotations

import atexit
import ctypes
import os
import platform
import threading
import time
from typing import Any

#: States of a slot: nothing to do (or done), a list that nobody has taken, one that the worker runs, and the end.
IDLE, POSTED, RUNNING, LEAVE = 0, 1, 2, 3
#: Looks at the state, some 50 ns each, before a worker sleeps; and before a caller lets others run.
PATIENCE = 2000
#: Words from the start of a slot: the list, the mutex, the condition, the end.
CALLS, COUNT, MUTEX, CONDITION, SLOT = 1, 2, 8, 24, 40

PAUSES = {"x86_64": "call void @llvm.x86.sse2.pause()", "AMD64": "call void @llvm.x86.sse2.pause()",
          "aarch64": "call void @llvm.aarch64.hint(i32 1)", "arm64": "call void @llvm.aarch64.hint(i32 1)"}
PAUSE = PAUSES.get(platform.machine(), "fence seq_cst")
#: Whether the system has what the text below declares.
POSIX = os.name == "posix"

#: Call number %k of the list %calls, and the number of the one after it.
CALL = """%call = getelementptr [4 x i64], ptr %calls, i64 %k
  %function = load ptr, ptr %call
  %table.at = getelementptr i64, ptr %call, i64 1
  %table = load ptr, ptr %table.at
  %begin.at = getelementptr i64, ptr %call, i64 2
  %begin = load i64, ptr %begin.at
  %end.at = getelementptr i64, ptr %call, i64 3
  %end = load i64, ptr %end.at
  call void %function(ptr %table, i64 %begin, i64 %end)
  %next = add i64 %k, 1"""

TEXT = f"""
declare i32 @pthread_mutex_init(ptr, ptr)
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_init(ptr, ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_signal(ptr)
declare i32 @sched_yield()
{f"declare void @{PAUSE.split('@')[1].split('(')[0]}({'i32' if 'i32' in PAUSE else ''})" if "@" in PAUSE else ""}

define void @gg_list(ptr %list) {{
entry:
  %calls = load ptr, ptr %list
  %count.at = getelementptr ptr, ptr %list, i64 1
  %count = load i64, ptr %count.at
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %next, %do ]
  %more = icmp slt i64 %k, %count
  br i1 %more, label %do, label %done
do:
  {CALL}
  br label %head
done:
  ret void
}}

define void @gg_slot(ptr %slot) {{
  %mutex = getelementptr i64, ptr %slot, i64 {MUTEX}
  %condition = getelementptr i64, ptr %slot, i64 {CONDITION}
  %a = call i32 @pthread_mutex_init(ptr %mutex, ptr null)
  %b = call i32 @pthread_cond_init(ptr %condition, ptr null)
  ret void
}}

define void @gg_post(ptr %slot, ptr %calls, i64 %count, i64 %state) {{
  %calls.at = getelementptr i64, ptr %slot, i64 {CALLS}
  store ptr %calls, ptr %calls.at
  %count.at = getelementptr i64, ptr %slot, i64 {COUNT}
  store i64 %count, ptr %count.at
  %mutex = getelementptr i64, ptr %slot, i64 {MUTEX}
  %condition = getelementptr i64, ptr %slot, i64 {CONDITION}
  %a = call i32 @pthread_mutex_lock(ptr %mutex)
  store atomic i64 %state, ptr %slot release, align 8
  %b = call i32 @pthread_cond_signal(ptr %condition)
  %c = call i32 @pthread_mutex_unlock(ptr %mutex)
  ret void
}}

define void @gg_worker(ptr %slot) {{
entry:
  %mutex = getelementptr i64, ptr %slot, i64 {MUTEX}
  %condition = getelementptr i64, ptr %slot, i64 {CONDITION}
  %list = getelementptr i64, ptr %slot, i64 {CALLS}
  br label %look
look:
  %looks = phi i64 [ 0, %entry ], [ %looked, %idle ], [ 0, %awake ], [ 0, %run ], [ 0, %take ]
  %state = load atomic i64, ptr %slot acquire, align 8
  switch i64 %state, label %idle [ i64 {POSTED}, label %take
                                   i64 {LEAVE}, label %leave ]
idle:
  {PAUSE}
  %looked = add i64 %looks, 1
  %patient = icmp slt i64 %looked, {PATIENCE}
  br i1 %patient, label %look, label %sleep
sleep:
  %a = call i32 @pthread_mutex_lock(ptr %mutex)
  br label %check
check:
  %found = load atomic i64, ptr %slot acquire, align 8
  %none = icmp eq i64 %found, {IDLE}
  br i1 %none, label %wait, label %awake
wait:
  %b = call i32 @pthread_cond_wait(ptr %condition, ptr %mutex)
  br label %check
awake:
  %c = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %look
take:
  %pair = cmpxchg ptr %slot, i64 {POSTED}, i64 {RUNNING} acq_rel monotonic
  %mine = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %mine, label %run, label %look
run:
  call void @gg_list(ptr %list)
  store atomic i64 {IDLE}, ptr %slot release, align 8
  br label %look
leave:
  store atomic i64 {IDLE}, ptr %slot release, align 8
  ret void
}}

define void @gg_share(ptr %p, i64 %begin, i64 %end) {{
entry:
  %pool = load ptr, ptr %p
  %set.at = getelementptr ptr, ptr %p, i64 1
  %set = load ptr, ptr %set.at
  %get.at = getelementptr ptr, ptr %p, i64 2
  %get = load ptr, ptr %get.at
  %lists = getelementptr ptr, ptr %p, i64 3
  %slots = getelementptr ptr, ptr %pool, i64 1                 ; list i goes to slot i: 1 is the first
  %workers = load i64, ptr %slots
  %others = sub i64 %end, 1
  %enough = icmp sge i64 %workers, %others
  br i1 %enough, label %ask, label %alone
ask:
  %pair = cmpxchg ptr %pool, i64 0, i64 1 acquire monotonic
  %ours = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %ours, label %have, label %alone
have:
  %plain = icmp eq ptr %set, null
  br i1 %plain, label %post, label %products
products:
  %before = call i32 %get()
  %several = icmp sgt i32 %before, 1
  br i1 %several, label %narrow, label %refuse
refuse:                                                        ; someone wants products on one thread
  store atomic i64 0, ptr %pool release, align 8
  br label %alone
narrow:
  call void %set(i32 1)
  br label %post
post:
  %i = phi i64 [ 1, %have ], [ 1, %narrow ], [ %i.next, %posting ]
  %old = phi i32 [ 0, %have ], [ %before, %narrow ], [ %old, %posting ]
  %more = icmp slt i64 %i, %end
  br i1 %more, label %posting, label %mine
posting:
  %slot.at = getelementptr ptr, ptr %slots, i64 %i
  %slot = load ptr, ptr %slot.at
  %list.at = getelementptr [2 x ptr], ptr %lists, i64 %i
  %list = load ptr, ptr %list.at
  %count.at = getelementptr ptr, ptr %list.at, i64 1
  %count = load i64, ptr %count.at
  call void @gg_post(ptr %slot, ptr %list, i64 %count, i64 {POSTED})
  %i.next = add i64 %i, 1
  br label %post
mine:
  call void @gg_list(ptr %lists)
  br label %join
join:
  %j = phi i64 [ 1, %mine ], [ %j.next, %joined ]
  %left = icmp slt i64 %j, %end
  br i1 %left, label %reclaim, label %finished
reclaim:
  %other.at = getelementptr ptr, ptr %slots, i64 %j
  %other = load ptr, ptr %other.at
  %back = cmpxchg ptr %other, i64 {POSTED}, i64 {IDLE} acq_rel acquire
  %untaken = extractvalue {{ i64, i1 }} %back, 1
  br i1 %untaken, label %do, label %wait
do:
  %its = getelementptr [2 x ptr], ptr %lists, i64 %j
  call void @gg_list(ptr %its)
  br label %joined
wait:
  %looks = phi i64 [ 0, %reclaim ], [ %looked, %pause ], [ 0, %yield ]
  %state = load atomic i64, ptr %other acquire, align 8
  %running = icmp eq i64 %state, {RUNNING}
  br i1 %running, label %pause, label %joined
pause:
  {PAUSE}
  %looked = add i64 %looks, 1
  %patient = icmp slt i64 %looked, {PATIENCE}
  br i1 %patient, label %wait, label %yield
yield:
  %y = call i32 @sched_yield()
  br label %wait
joined:
  %j.next = add i64 %j, 1
  br label %join
finished:
  br i1 %plain, label %release, label %widen
widen:
  call void %set(i32 %old)
  br label %release
release:
  store atomic i64 0, ptr %pool release, align 8
  ret void
alone:
  %n = phi i64 [ 0, %entry ], [ 0, %ask ], [ 0, %refuse ], [ %n.next, %each ]
  %rest = icmp slt i64 %n, %end
  br i1 %rest, label %each, label %over
each:
  %one = getelementptr [2 x ptr], ptr %lists, i64 %n
  call void @gg_list(ptr %one)
  %n.next = add i64 %n, 1
  br label %alone
over:
  ret void
}}
"""


class Workers:
    """The threads of a process. `address` is that of the pool. They start when the first program asks for them."""

    def __init__(self, library: Any, count: int):
        kinds = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
        self.initialise = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(library["gg_slot"])
        self.post = ctypes.PYFUNCTYPE(None, *kinds)(library["gg_post"])
        self.work = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(library["gg_worker"])
        self.count = count
        self.pool = (ctypes.c_int64 * (2 + count))()
        self.slots = [(ctypes.c_int64 * SLOT)() for _ in range(count)]
        self.pool[2:] = [ctypes.addressof(slot) for slot in self.slots]
        self.address = ctypes.addressof(self.pool)
        self.threads: list[threading.Thread] = []
        self.lock = threading.Lock()
        atexit.register(self.stop)                           # native code must not outlive its library
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.forked)

    def start(self) -> None:
        with self.lock:
            if self.threads or not self.count:
                return
            for slot in self.slots:
                ctypes.memset(slot, 0, ctypes.sizeof(slot))
                self.initialise(ctypes.addressof(slot))
                thread = threading.Thread(target=self.work, args=(ctypes.addressof(slot),), name="gpugrad", daemon=True)
                thread.start()
                self.threads.append(thread)
            self.pool[1] = self.count

    def stop(self) -> None:
        with self.lock:
            self.pool[1] = 0
            patience = time.monotonic() + 1
            while self.pool[0] and time.monotonic() < patience:
                time.sleep(0.001)
            for slot, thread in zip(self.slots, self.threads, strict=False):
                self.post(ctypes.addressof(slot), None, 0, LEAVE)
                thread.join()
            self.threads.clear()

    def forked(self) -> None:
        """A child has none of its parent's threads."""
        had, self.threads, self.lock = bool(self.threads), [], threading.Lock()
        self.pool[0] = self.pool[1] = 0
        if had:
            self.start()
