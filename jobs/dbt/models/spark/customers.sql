{{ config(materialized='incremental', incremental_strategy='merge', unique_key='customer') }}
select customer, max(day) as last_day, count(*) as orders
from {{ source('shop', 'orders') }}
group by customer
