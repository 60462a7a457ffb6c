//! A consumer that sleeps is woken by what is published, however the two sides interleave.

use super::super::spsc;
use super::*;

#[cfg(not(loom))]
mod real {
    use std::task::Wake;
    use std::thread;

    use super::*;

    fn eventfd_is_rung(parker: &Parker) -> bool {
        let Bell::Eventfd(file) = &parker.shared.bell else { panic!("made with an eventfd") };
        (&*file).read(&mut [0; 8]).is_ok()
    }

    #[test]
    fn only_a_parked_consumer_is_rung_for() {
        let parker = Parker::with_eventfd().expect("a descriptor is left");
        let waker = parker.waker();
        waker.wake();
        assert!(!eventfd_is_rung(&parker), "it was awake");

        assert!(parker.announce(|| true));
        waker.wake();
        waker.clone().wake();
        assert!(eventfd_is_rung(&parker));

        assert!(!parker.announce(|| false), "there was work");
        waker.wake();
        assert!(!eventfd_is_rung(&parker));

        waker.kick();
        parker.drain();
        assert!(!eventfd_is_rung(&parker));
    }

    #[test]
    fn park_waits_only_if_idle() {
        let parker = Parker::with_eventfd().expect("a descriptor is left");
        let mut waited = false;
        assert!(!parker.park(|| false, || waited = true));
        assert!(!waited);
        assert!(parker.park(|| true, || waited = true));
        assert!(waited);
    }

    #[test]
    fn a_task_is_woken_by_its_own_waker() {
        struct Unpark(thread::Thread);
        impl Wake for Unpark {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.unpark();
            }
        }

        let (mut producer, mut consumer) = spsc::ring(4);
        let parker = Parker::with_task();
        let waker = parker.waker();
        waker.kick(); // Nobody has been polled yet: nothing happens.
        parker.set_task(&std::sync::Arc::new(Unpark(thread::current())).into());
        let sender = thread::spawn(move || {
            for number in 0..1_000_u32 {
                while producer.push(number).is_err() {
                    thread::yield_now();
                }
                waker.wake();
            }
        });
        for number in 0..1_000 {
            while consumer.is_empty() {
                parker.park(|| consumer.is_empty(), thread::park);
            }
            assert_eq!(consumer.pop(), Some(number));
        }
        sender.join().expect("the sender does not panic");
    }
}

#[cfg(loom)]
mod model {
    use loom::thread;

    use super::*;

    fn wait(parker: &Parker) {
        let Bell::Model(rung, wake) = &parker.shared.bell;
        let mut rung = rung.lock().expect("no thread panics");
        while !*rung {
            rung = wake.wait(rung).expect("no thread panics");
        }
        *rung = false;
    }

    /// Loom reports a deadlock if a wake-up is lost.
    fn check_wakes(value_count: u32, preemption_bound: Option<usize>) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = preemption_bound;
        model.check(move || {
            let parker = Parker::with_model();
            let waker = parker.waker();
            let (mut producer, mut consumer) = spsc::ring(2);
            let sender = thread::spawn(move || {
                for number in 0..value_count {
                    producer.push(number).expect("there is room");
                    waker.wake();
                }
            });
            for number in 0..value_count {
                while consumer.is_empty() {
                    parker.park(|| consumer.is_empty(), || wait(&parker));
                }
                assert_eq!(consumer.pop(), Some(number));
            }
            sender.join().expect("the sender does not panic");
        });
    }

    /// Every interleaving of one value and one sleep.
    #[test]
    fn a_published_value_always_wakes_the_consumer() {
        check_wakes(1, None);
    }

    /// Behind a call that was heard another one is. At most three preemptions: without a bound this
    /// takes a minute.
    #[test]
    fn a_second_value_wakes_the_consumer_again() {
        check_wakes(2, Some(3));
    }

    /// As the host does it: it also stops waiting by itself, and silences the bell each time. At
    /// most three preemptions, which takes seconds; without a bound it takes many minutes.
    #[test]
    fn a_wait_that_ends_early_and_a_silenced_bell_lose_no_value() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let parker = Parker::with_model();
            let waker = parker.waker();
            let (mut producer, mut consumer) = spsc::ring(2);
            let sender = thread::spawn(move || {
                for number in 0..2_u32 {
                    producer.push(number).expect("there is room");
                    waker.wake();
                }
            });
            let mut is_early = true;
            for number in 0..2 {
                while consumer.is_empty() {
                    let wait = || {
                        if !std::mem::take(&mut is_early) {
                            wait(&parker);
                        }
                    };
                    parker.park(|| consumer.is_empty(), wait);
                    parker.drain();
                }
                assert_eq!(consumer.pop(), Some(number));
            }
            sender.join().expect("the sender does not panic");
        });
    }

    /// At most three preemptions: without a bound three threads take minutes.
    #[test]
    fn one_of_two_producers_is_enough_to_wake() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let parker = Parker::with_model();
            let mut consumers = Vec::new();
            let mut senders = Vec::new();
            for _ in 0..2 {
                let (mut producer, consumer) = spsc::ring(1);
                let waker = parker.waker();
                consumers.push(consumer);
                senders.push(thread::spawn(move || {
                    producer.push(()).expect("there is room");
                    waker.wake();
                }));
            }
            let mut taken_count = 0;
            while taken_count < 2 {
                taken_count += consumers.iter_mut().filter_map(spsc::Consumer::pop).count();
                if taken_count < 2 {
                    parker.park(
                        || consumers.iter_mut().all(spsc::Consumer::is_empty),
                        || wait(&parker),
                    );
                }
            }
            for sender in senders {
                sender.join().expect("the sender does not panic");
            }
        });
    }
}
